import type { Interpretation, NamedTensors } from '@isthmus/core';
import type { ChosenPlan } from '@isthmus/planner';

/** Where the time of one frame went, in milliseconds. */
export interface Timing {
  /** Decoding the picture, and making it the tensor of cut 0. */
  preprocessMs: number;
  /** The device's segments. */
  deviceMs: number;
  encodeMs: number;
  /** From handing the packet over until the result was whole, without what the receiver says it took. */
  linkMs: number;
  /** Waiting at the receiver. */
  queueMs: number;
  decodeMs: number;
  /** The cloud's segments. */
  cloudMs: number;
  /** From `run()` to its result; with waiting for a slot, for segments and for a lost link. */
  totalMs: number;
}

/** Bytes of one frame; all 0 when it was answered locally. */
export interface Traffic {
  /** The request, with all headers of the protocol. */
  up: number;
  /** The result, likewise. */
  down: number;
  /** What the codec made of the frame. */
  payload: number;
}

/** What `session.run()` gives. */
export interface FrameResult {
  /** What the tensors mean, by the manifest's task: classes, boxes, or the tensors themselves. */
  output: Interpretation;
  /** The model's outputs by name. */
  tensors: NamedTensors;
  /** How the frame was answered; `local` when the device did it alone. */
  plan: ChosenPlan;
  timing: Timing;
  bytes: Traffic;
  /** Bits sent up per pixel of the model's input; null when the model takes no picture. */
  bitsPerPixel: number | null;
}
