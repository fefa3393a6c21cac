import type { IsthmusError, Manifest, ReceiptMessage } from '@isthmus/core';
import type { ChosenPlan, Decision, LinkEstimate, Plan } from '@isthmus/planner';
import type { LinkState, LinkStateEvent } from './connection.js';
import type { FrameResult } from './result.js';
import type { SegmentEvent } from './segments.js';

/** What was decided for one frame whose plan was left to the session. */
export interface DecisionEvent {
  /** Which: the number of `run()` calls before its own. */
  frame: number;
  /** With what every plan was expected to take, in `candidates()`. */
  decision: Decision;
}

/** What a session tells while it runs. */
export interface SessionEvents {
  /** Frames are answered by another plan than before. */
  plan: ChosenPlan;
  /** A frame's plan was chosen; more than once for a frame whose receiver came back with another bundle. */
  decision: DecisionEvent;
  /** The link went or came back. */
  link: LinkStateEvent;
  /** A segment is coming, or has come. */
  segment: SegmentEvent;
  /** What the receiver says about a request: when it arrived, and what it took. */
  receipt: ReceiptMessage;
  /** The session has ended; `error` if nobody asked for it. */
  close: { error: IsthmusError | undefined };
}

export interface RunOptions {
  /** For this frame only. @default the session's */
  plan?: Plan | 'auto';
  /** Cancels the request, at the receiver too. */
  signal?: AbortSignal;
  /** The request fails with `request/deadline` when there is no answer by then. @default none */
  deadlineMs?: number;
}

/** A model on this device and a receiver together. */
export interface Session<Frame> {
  /** Of the bundle in use; another one after the receiver came back with a new bundle. */
  readonly manifest: Manifest;
  readonly link: LinkState;
  /** What is known of the way to the receiver, now. */
  readonly estimate: LinkEstimate;
  /**
   * Answers one frame. Several may run at once; those beyond what the receiver takes wait for their turn.
   * Every call ends exactly once, with a result or an error, also if the link breaks meanwhile.
   *
   * @param frame Tensors and pixels are not copied: do not change them before the call ends. Pictures that only
   * the platform has (a canvas, a video) are read at once.
   *
   * @throws IsthmusError `request/cancelled`, `request/deadline`, `request/skipped` when `auto` finds no plan worth
   * taking, `request/dropped` when too many frames wait, `request/invalid-plan`, `bundle/no-such-cut`, `codec/…`, `tensor/…`, `image/…`, `runtime/…`, `bundle/hash-mismatch`, `link/lost`, `link/closed`, or what
   * the receiver answers
   */
  run(frame: Frame, options?: RunOptions): Promise<FrameResult>;
  /**
   * Downloads and loads what a plan needs on the device, so that the first frame does not wait for it, and, for
   * `{ kind: 'local' }`, so that frames can be answered when the link is gone.
   *
   * @throws IsthmusError as `run`
   */
  prepare(plan: Plan): Promise<void>;
  /** Calls `listener` on every such event, until the returned function is called. */
  on<Name extends keyof SessionEvents>(
    name: Name,
    listener: (event: SessionEvents[Name]) => void,
  ): () => void;
  /** Ends the session; requests under way fail with `link/closed`. Idempotent. */
  close(): Promise<void>;
}
