import { IsthmusError, requestHeaderBytes } from '@isthmus/core';
import { type EnergyModel, energyPresets, joulesOf } from '@isthmus/planner';
import { createEventQueue } from './events.js';
import { startPings } from './pings.js';
import { createPipe, type Delivery } from './pipe.js';
import type { Policy, PolicyFactory } from './policy.js';
import type { Scenario } from './scenario.js';
import { createSpanLoader } from './span-loader.js';
import type { PlanOption } from './workload.js';

/** What became of a frame. */
export interface FrameOutcome {
  /** `answered`: in time. `late`: begun, but no answer in time. `skipped`: by choice. `missed`: a newer one came first. */
  state: 'answered' | 'late' | 'skipped' | 'missed';
  /** Index of the plan among the workload's options; -1 where there was none. */
  option: number;
  /** From capture to answer; NaN without one in time. */
  latencyMs: number;
  /** Sent over the link, what was in vain included. */
  wireBytes: number;
  /** Of the device. */
  joules: number;
}

export interface RunOutcome {
  policy: string;
  frames: FrameOutcome[];
  /** Over the link in all, pings included. */
  deliveredBytes: number;
}

interface Started extends FrameOutcome {
  index: number;
  deadlineAtMs: number;
  computeMs: number;
  /** Undefined for frames that are not, or not yet, handed to the link. */
  sentMs: number | undefined;
  endMs: number;
}

// A receiver's clock is another one; no policy may compare it with the device's.
const receiverClockMs = 1e6;

/**
 * One run of a policy, in simulated time, on a device that has just connected. A camera gives a frame every so often.
 * The device does one thing at a time; a frame that comes meanwhile waits, in place of one that waits already. The uplink is a pipe behind a window (see
 * `createPipe`); at its deadline the rest of a packet is taken back. The receiver handles packets one by one in the
 * order they come, and drops what is past its deadline when its turn comes. The way back only takes the delay. A policy
 * learns of everything when the device would; `socket.bufferedAmount` tells it nothing, as where the system's
 * own buffers hold the window.
 */
export function simulate(
  scenario: Scenario,
  createPolicy: PolicyFactory,
  { energy = energyPresets.phoneLte }: { energy?: EnergyModel } = {},
): RunOutcome {
  const { workload, trace, deadlineMs, intervalMs, numFrames, deviceNoise, cloudNoise } = scenario;
  const { prepareMs, cloudWaitMs, pauses = [] } = scenario;
  const { delayMs } = trace;
  const events = createEventQueue();
  const pipe = createPipe(trace, events, scenario.windowBytes);
  const policy: Policy = createPolicy({ workload, deadlineMs, clock: events });
  const spans = createSpanLoader(workload.manifest, policy, events, delayMs);
  const frames: FrameOutcome[] = [];
  const started: Started[] = [];
  let isBusy = false;
  let waiting: number | undefined;
  let cloudFreeMs = 0;

  const afterPause = (atMs: number): number =>
    pauses.find(({ fromMs, toMs }) => atMs >= fromMs && atMs < toMs)?.toMs ?? atMs;

  const begin = (index: number): void => {
    const capturedMs = index * intervalMs;
    const { plan, prepare, evict } = policy.decide({ index, capturedMs, deadlineMs });
    spans.follow(prepare ?? null, evict ?? []);
    if (plan.kind === 'skip') {
      frames[index] = without('skipped');
      return;
    }
    const option = workload.indexOf(plan);
    const chosen = option === undefined ? undefined : workload.options[option];
    if (option === undefined || chosen === undefined || !spans.isReady(chosen.deviceCut)) {
      throw new IsthmusError('internal', `${policy.name} chose ${JSON.stringify(plan)}, which is not there.`);
    }
    const noise = deviceNoise[index] ?? 1;
    const frame: Started = {
      ...{ ...without('late'), option, index, deadlineAtMs: capturedMs + deadlineMs },
      ...{ computeMs: noise * (chosen.deviceMs + chosen.encodeMs), sentMs: undefined, endMs: Infinity },
    };
    frames[index] = frame;
    started.push(frame);
    isBusy = true;
    events.at(afterPause(events.now() + frame.computeMs), () => finishComputing(frame, chosen, noise));
    // Last of all at its time: an answer just then is still in time.
    events.at(frame.deadlineAtMs, () => expire(frame), 2);
  };

  const finishComputing = (frame: Started, chosen: PlanOption, noise: number): void => {
    const { plan, deviceCut, deviceMs, encodeMs } = chosen;
    if (deviceCut > 0) policy.ran?.({ to: deviceCut, durationMs: noise * deviceMs });
    if (plan.kind === 'local') {
      finish(frame);
    } else {
      const { codec, from, to, level } = plan;
      const numBytes = chosen.packetBytes[frame.index % workload.numPictures] ?? 0;
      const payloadBytes = Math.max(0, numBytes - requestHeaderBytes);
      const durationMs = noise * encodeMs;
      policy.encoded?.({ codec, from, to, level, durationMs, numBytes: payloadBytes });
      if (events.now() < frame.deadlineAtMs) send(frame, chosen, numBytes);
    }
    isBusy = false;
    const next = waiting;
    waiting = undefined;
    if (next !== undefined) begin(next);
  };

  const send = (frame: Started, chosen: PlanOption, numBytes: number): void => {
    frame.wireBytes = chosen.wireBytes[frame.index % workload.numPictures] ?? 0;
    frame.sentMs = events.now();
    policy.sent?.({ id: frame.index, numBytes: frame.wireBytes });
    pings?.watch();
    pipe.send(frame.index, frame.wireBytes, (delivery) => receive(frame, chosen, numBytes, delivery));
  };

  // Packets come in the order they were sent, so the receiver's time can be told as soon as the pipe has them.
  const receive = (frame: Started, chosen: PlanOption, numBytes: number, delivery: Delivery): void => {
    const { plan } = chosen;
    if (plan.kind === 'local') return;
    const [firstMs, lastMs] = [afterPause(delivery.firstMs + delayMs), afterPause(delivery.lastMs + delayMs)];
    events.at(afterPause(lastMs + delayMs), () => {
      pings?.heard();
      const clock = { firstMs: firstMs + receiverClockMs, lastMs: lastMs + receiverClockMs };
      policy.arrived?.({ id: frame.index, numBytes, ...clock });
    });
    const startMs = Math.max(lastMs, cloudFreeMs);
    const allowedMs = Math.max(1, frame.deadlineAtMs - (frame.sentMs ?? 0));
    if (startMs > firstMs + allowedMs) return;
    const noise = cloudNoise[frame.index] ?? 1;
    const [decodeMs, runMs] = [noise * chosen.decodeMs, noise * chosen.cloudMs];
    const waitMs = cloudWaitMs?.[frame.index] ?? 0;
    const queueMs = startMs - lastMs + waitMs;
    cloudFreeMs = startMs + waitMs + decodeMs + runMs;
    events.at(afterPause(afterPause(cloudFreeMs) + delayMs), () => {
      pings?.heard();
      finish(frame);
      policy.answered?.({ plan, queueMs, decodeMs, runMs });
    });
  };

  const finish = (frame: Started): void => {
    if (events.now() > frame.deadlineAtMs) return;
    frame.state = 'answered';
    frame.endMs = events.now();
    frame.latencyMs = frame.endMs - frame.index * intervalMs;
  };

  const expire = (frame: Started): void => {
    if (frame.state === 'answered') return;
    frame.endMs = frame.deadlineAtMs;
    if (frame.sentMs === undefined) return;
    const unsentBytes = pipe.abandon(frame.index);
    frame.wireBytes -= unsentBytes;
    policy.abandoned?.({ id: frame.index, unsentBytes });
  };

  const capture = (index: number): void => {
    if (index + 1 < numFrames) events.at((index + 1) * intervalMs, () => capture(index + 1), 0);
    const readyMs = events.now() + (prepareMs?.[index] ?? 0);
    if (readyMs > events.now()) events.at(readyMs, () => offer(index), 0);
    else offer(index);
  };

  const offer = (index: number): void => {
    if (!isBusy) {
      begin(index);
      return;
    }
    if (waiting !== undefined) {
      frames[waiting] = without('missed');
      policy.dropped?.({ capturedMs: waiting * intervalMs });
    }
    waiting = index;
  };

  const pings = policy.pings === false ? undefined : startPings({ events, pipe, delayMs, policy });
  events.at(0, () => capture(0), 0);
  events.runUntil(numFrames * intervalMs + deadlineMs);
  if (waiting !== undefined) frames[waiting] = without('missed');
  for (const frame of started) {
    const { computeMs, sentMs, endMs, wireBytes } = frame;
    const sendMs = pipe.sendMs(frame.index);
    const waitMs = sentMs === undefined ? 0 : Math.max(0, endMs - sentMs - sendMs);
    frame.joules = joulesOf(energy, { computeMs, sendMs, waitMs, numBytes: wireBytes });
  }
  return { policy: policy.name, frames, deliveredBytes: pipe.deliveredBytes };
}

function without(state: FrameOutcome['state']): FrameOutcome {
  return { state, option: -1, latencyMs: Number.NaN, wireBytes: 0, joules: 0 };
}
