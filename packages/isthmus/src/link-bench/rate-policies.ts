import { createGoodput, type Goodput } from './goodput.js';
import type { FrameContext, Observer, PolicyFactory } from './policy.js';
import type { PlanOption } from './workload.js';

// Taken before anything was measured: an ordinary mobile uplink, 2 Mbit/s.
const unknownBytesPerMs = 250;
const safety = 0.9;

/**
 * What a player of video would do: the best quality whose bytes fit into the rate times the time that computing leaves,
 * less a tenth. The rate is the harmonic mean of the last five packets (Jiang et al., "FESTIVE", CoNEXT 2012); the cut is
 * the one that is best at the mean of all packets so far. Told what computing takes, which it need not learn.
 */
export const throughputRule: PolicyFactory = ({ workload: { options }, clock }) => {
  const goodput = createGoodput(clock);
  return {
    ...observe(goodput),
    name: 'throughput-rule',
    decide(frame) {
      const waitedMs = clock.now() - frame.capturedMs;
      const usual = bestThatFits(options, frame, 0, goodput.overall, goodput);
      const atCut = options.filter(({ deviceCut }) => deviceCut === usual.deviceCut);
      return { plan: bestThatFits(atCut, frame, waitedMs, goodput.recent, goodput).plan };
    },
  };
};

/** As `throughputRule` at one cut: rate adaptation without moving the split. */
export function rateOnly(cut: number): PolicyFactory {
  return ({ workload, clock }) => {
    const goodput = createGoodput(clock);
    const options = workload.options.filter(
      ({ plan, deviceCut }) => plan.kind === 'split' && deviceCut === cut,
    );
    return {
      ...observe(goodput),
      name: 'rate-only',
      decide(frame) {
        const waitedMs = clock.now() - frame.capturedMs;
        return { plan: bestThatFits(options, frame, waitedMs, goodput.recent, goodput).plan };
      },
    };
  };
}

/**
 * Moving the split without codecs, as Neurosurgeon (Kang et al., ASPLOS 2017): float32 or float16 as they are, or
 * everything on the device; whichever should be answered soonest.
 */
export const splitOnly: PolicyFactory = ({ workload, clock }) => {
  const goodput = createGoodput(clock);
  const raw = new Set(workload.manifest.codecs.filter(({ kind }) => kind === 'raw').map(({ id }) => id));
  const options = workload.options.filter(({ plan }) => plan.kind === 'local' || raw.has(plan.codec));
  return {
    ...observe(goodput),
    name: 'split-only',
    decide() {
      const bytesPerMs = goodput.recent ?? unknownBytesPerMs;
      const latency = (option: PlanOption): number =>
        computeMs(option) +
        (option.plan.kind === 'local' ? 0 : option.meanBytes / bytesPerMs + goodput.roundTripMs);
      const best = options.reduce((a, b) => (latency(b) < latency(a) ? b : a));
      return { plan: best.plan };
    },
  };
};

const computeMs = ({ deviceMs, encodeMs, decodeMs, cloudMs }: PlanOption): number =>
  deviceMs + encodeMs + decodeMs + cloudMs;

/** The best quality that fits, of equals the fewest bytes; the fewest bytes if none fits. */
function bestThatFits(
  options: readonly PlanOption[],
  { deadlineMs }: FrameContext,
  waitedMs: number,
  rate: number | undefined,
  { roundTripMs }: Goodput,
): PlanOption {
  const bytesPerMs = rate ?? unknownBytesPerMs;
  const fits = (option: PlanOption): boolean => {
    const waysMs = option.plan.kind === 'local' ? 0 : roundTripMs;
    const leftMs = deadlineMs - waitedMs - computeMs(option) - waysMs;
    return leftMs > 0 && option.meanBytes <= safety * bytesPerMs * leftMs;
  };
  const isBetter = (a: PlanOption, b: PlanOption): boolean =>
    a.quality !== b.quality ? a.quality > b.quality : a.meanBytes < b.meanBytes;
  const fitting = options.filter(fits);
  if (fitting.length > 0) return fitting.reduce((best, option) => (isBetter(option, best) ? option : best));
  const remote = options.filter(({ plan }) => plan.kind === 'split');
  const all = remote.length > 0 ? remote : options;
  return all.reduce((least, option) => (option.meanBytes < least.meanBytes ? option : least));
}

const observe = ({ sent, arrived, abandoned, roundTrip }: Goodput): Partial<Observer> => ({
  sent,
  arrived,
  abandoned,
  roundTrip,
});
