import {
  type Clock,
  decodeResultPacket,
  encodeRequestPacket,
  IsthmusError,
  isIsthmusError,
  type Manifest,
  type NamedTensors,
} from '@isthmus/core';
import type { Controller, SplitPlan } from '@isthmus/planner';
import type { Bundle } from './bundle.js';
import type { Lifetime } from './lifetime.js';
import { type Answer, bytesOnWire } from './requests.js';
import type { Timing, Traffic } from './result.js';
import type { Uplink } from './uplink.js';

/** The model's outputs for one frame, and what they took from cut 0 on. */
export interface Answered {
  tensors: NamedTensors;
  timing: Omit<Timing, 'preprocessMs' | 'totalMs'>;
  bytes: Traffic;
}

export interface AnswerContext {
  bundle: Bundle;
  clock: Clock;
  lifetime: Lifetime;
  /** Told what everything took. */
  controller: Controller;
}

const maxDownloads = 3;
const downloadPauseMs = 100;

const nothing: Answered['timing'] = {
  deviceMs: 0,
  encodeMs: 0,
  linkMs: 0,
  queueMs: 0,
  decodeMs: 0,
  cloudMs: 0,
};

/** Runs every segment here. */
export async function answerLocally(context: AnswerContext, frame: NamedTensors): Promise<Answered> {
  const { tensors, durationMs } = await runSpan(context, context.bundle.manifest.cuts.length - 1, frame);
  return { tensors, timing: { ...nothing, deviceMs: durationMs }, bytes: { up: 0, down: 0, payload: 0 } };
}

export interface SplitContext extends AnswerContext {
  uplink: Uplink;
  /** When an answer is of no use any more, on the clock. */
  deadlineAtMs: number | undefined;
  /** The device can begin with another frame. */
  onEncoded: () => void;
  /** Throws if the bundle is not the receiver's any more. */
  checkBundle: () => void;
}

/** Runs the first segments here, the others at the receiver. */
export async function answerSplit(
  context: SplitContext,
  frame: NamedTensors,
  plan: SplitPlan,
): Promise<Answered> {
  const { bundle, clock, controller, lifetime, uplink } = context;
  const { manifest } = bundle;
  if (!uplink.accept.codecs.includes(plan.codec)) {
    throw new IsthmusError(
      'codec/unknown',
      `The receiver and this device do not both know codec ${plan.codec}, only ${uplink.accept.codecs.join(', ')}.`,
    );
  }
  const span = await runSpanWhenUp(context, plan.from, frame);
  const encodeStartMs = clock.now();
  const payload = await lifetime.race(
    bundle.encoders.use(plan, async (encoder) => {
      const encoderMs = clock.now();
      const encoded = await encoder.encode(span.tensors, plan);
      controller.encoded({ ...plan, durationMs: clock.now() - encoderMs, numBytes: encoded.byteLength });
      return encoded;
    }),
  );
  const sendMs = clock.now();
  const packet = encodeRequestPacket(
    {
      from: plan.from,
      to: plan.to,
      level: plan.level,
      codec: manifest.codecs.findIndex(({ id }) => id === plan.codec),
      deadlineMs: context.deadlineAtMs === undefined ? 0 : Math.max(1, context.deadlineAtMs - sendMs),
    },
    payload,
  );
  const { packetBytes } = uplink.accept.limits;
  if (packet.byteLength > packetBytes) {
    throw new IsthmusError(
      'wire/too-large',
      `This plan makes ${packet.byteLength} bytes of the frame; the receiver takes ${packetBytes}. Choose a later cut or another codec.`,
      { details: { numBytes: packet.byteLength, packetBytes } },
    );
  }
  context.checkBundle();
  context.onEncoded();
  const { answer, tensors } = await exchange(context, packet, manifest);
  const { receipt } = answer;
  const [queueMs, decodeMs, cloudMs] = [receipt?.queueMs ?? 0, receipt?.decodeMs ?? 0, receipt?.runMs ?? 0];
  if (receipt !== undefined) controller.answered({ plan, queueMs, decodeMs, runMs: cloudMs });
  return {
    tensors,
    timing: {
      deviceMs: span.durationMs,
      encodeMs: sendMs - encodeStartMs,
      // The two clocks measure durations only; rounding may still leave less than nothing.
      linkMs: Math.max(0, answer.receivedMs - sendMs - queueMs - decodeMs - cloudMs),
      queueMs,
      decodeMs,
      cloudMs,
    },
    bytes: {
      up: bytesOnWire(packet.byteLength),
      down: bytesOnWire(answer.packet.byteLength),
      payload: payload.byteLength,
    },
  };
}

// A result that was damaged on its way is asked for once more.
async function exchange(
  { uplink, lifetime }: SplitContext,
  packet: Uint8Array,
  manifest: Manifest,
): Promise<{ answer: Answer; tensors: NamedTensors }> {
  for (let attempt = 1; ; attempt++) {
    const answer = await uplink.submit(packet, lifetime.signal);
    try {
      return { answer, tensors: decodeResultPacket(answer.packet, manifest) };
    } catch (error) {
      if (attempt > 1 || !isIsthmusError(error, 'wire/crc-mismatch')) throw error;
    }
  }
}

// Segments come from the receiver as well: while it is gone, they are waited for like an answer.
async function runSpanWhenUp(
  context: SplitContext,
  to: number,
  frame: NamedTensors,
): Promise<{ tensors: NamedTensors; durationMs: number }> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await runSpan(context, to, frame);
    } catch (error) {
      if (attempt === maxDownloads || !isIsthmusError(error, 'link/connect-failed')) throw error;
    }
    const { clock, lifetime, uplink } = context;
    // The socket may take a moment to notice as well.
    await lifetime.race(new Promise<void>((resolve) => void clock.after(downloadPauseMs, resolve)));
    await lifetime.race(uplink.whenUp());
  }
}

async function runSpan(
  { bundle, lifetime, controller }: AnswerContext,
  to: number,
  frame: NamedTensors,
): Promise<{ tensors: NamedTensors; durationMs: number }> {
  const result = await lifetime.race(bundle.spans.run(to, frame));
  if (to > 0) controller.ran({ to, durationMs: result.durationMs });
  return result;
}
