import { setTimeout as sleep } from 'node:timers/promises';

/** One way of doing the same thing; gives milliseconds by name, `total` among them. */
export interface Contender {
  name: string;
  run: () => Promise<Readonly<Record<string, number>>>;
}

/** Quartiles, in milliseconds unless it is a ratio. */
export interface Spread {
  median: number;
  low: number;
  high: number;
}

export interface Measured {
  name: string;
  /** Of every time a run gave. */
  times: Record<string, Spread>;
  /** Of each time, over that of the first contender in the same round; of those that it gives too. */
  ratios: Record<string, Spread>;
}

export interface RoundsOptions {
  rounds: number;
  /** Rounds that do not count. */
  warmup: number;
  /** Between two runs: ONNX Runtime's threads spin for some 30 ms after each, and would be in the next one's way. */
  pauseMs: number;
  /** Of ONNX Runtime, in every process. With one, the processor's time says more on a busy machine than the clock's. */
  threads: number | undefined;
  onRound?: (done: number, total: number) => void;
}

/**
 * Runs all contenders once a round, each round starting with another one. What else happens on the machine then
 * hits all alike, and the ratio within a round says more than any time.
 */
export async function runRounds(
  contenders: readonly Contender[],
  options: RoundsOptions,
): Promise<Measured[]> {
  const samples = new Map(contenders.map(({ name }) => [name, [] as Readonly<Record<string, number>>[]]));
  const total = options.warmup + options.rounds;
  for (let round = 0; round < total; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const { name, run } = contenders[(round + turn) % contenders.length]!;
      await sleep(options.pauseMs);
      const times = await run();
      if (round >= options.warmup) samples.get(name)!.push(times);
    }
    options.onRound?.(round + 1, total);
  }
  const base = samples.get(contenders[0]!.name)!;
  return contenders.map(({ name }) => {
    const own = samples.get(name)!;
    const keys = Object.keys(own[0]!);
    const shared = keys.filter((key) => key in base[0]!);
    return {
      name,
      times: collect(keys, (key) => own.map((times) => times[key]!)),
      ratios: collect(shared, (key) => own.map((times, round) => times[key]! / base[round]![key]!)),
    };
  });
}

function collect(keys: readonly string[], valuesOf: (key: string) => number[]): Record<string, Spread> {
  return Object.fromEntries(keys.map((key) => [key, spread(valuesOf(key))]));
}

function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => {
    const position = share * (sorted.length - 1);
    const below = Math.floor(position);
    const above = Math.min(below + 1, sorted.length - 1);
    return round(sorted[below]! + (position - below) * (sorted[above]! - sorted[below]!));
  };
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}

/** What `run` takes by the clock, and of this process's processor time, in milliseconds. */
export async function timed<Result>(
  run: () => Promise<Result>,
): Promise<{ result: Result; total: number; cpu: number }> {
  const cpuStart = process.cpuUsage();
  const startMs = performance.now();
  const result = await run();
  const total = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpuStart);
  return { result, total, cpu: (user + system) / 1000 };
}

/** Of a promise of {@link timed}, the times. */
export async function timesOf(
  measured: Promise<{ total: number; cpu: number }>,
): Promise<Record<string, number>> {
  const { total, cpu } = await measured;
  return { total, cpu };
}
