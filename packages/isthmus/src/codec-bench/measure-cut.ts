import { setImmediate } from 'node:timers/promises';
import { IsthmusError } from '@isthmus/core';
import { type CodedCut, type Coder, makeCoders } from './coders.js';
import type { CodecCutResult, Spread } from './result.js';

export interface RoundsOptions {
  rounds: number;
  /** Milliseconds of processor time that this process has used: no coder waits, and other programs matter less. */
  cpuMs(): number;
  signal: AbortSignal;
}

const warmupRounds = 3;

/**
 * Runs every coder over all pictures of a cut, once a round. Each round starts with another coder, so that what else
 * happens on the machine hits all alike.
 *
 * @throws IsthmusError `internal` if a coder does not give back what it was given
 */
export async function measureCut(
  cut: CodedCut,
  { rounds, cpuMs, signal }: RoundsOptions,
): Promise<Pick<CodecCutResult, 'symbols' | 'entropy' | 'coders'>> {
  const symbols = cut.photos.length * cut.channels * cut.perChannel;
  const trials = makeCoders(cut).map((coder) => ({ coder, numBytes: 0, samples: [] as CoderTimes[] }));
  for (let round = 0; round < warmupRounds + rounds; round++) {
    for (let turn = 0; turn < trials.length; turn++) {
      const trial = trials[(round + turn) % trials.length]!;
      const { numBytes, ...times } = runCoder(trial.coder, cut, cpuMs);
      trial.numBytes = numBytes;
      if (round >= warmupRounds) trial.samples.push(times);
      await setImmediate();
      signal.throwIfAborted();
    }
  }
  const perSecond = (durationMs: number): number => (1000 * symbols) / durationMs;
  return {
    symbols,
    entropy: measureEntropy(cut, symbols),
    coders: trials.map(({ coder, numBytes, samples }) => ({
      coder: coder.name,
      numBytes,
      bitsPerSymbol: Number(((8 * numBytes) / symbols).toFixed(4)),
      encodeSymbolsPerSecond: spreadOf(samples.map(({ encodeMs }) => perSecond(encodeMs))),
      decodeSymbolsPerSecond: spreadOf(samples.map(({ decodeMs }) => perSecond(decodeMs))),
    })),
  };
}

interface CoderTimes {
  encodeMs: number;
  decodeMs: number;
}

function runCoder(
  coder: Coder,
  { photos }: CodedCut,
  cpuMs: () => number,
): CoderTimes & { numBytes: number } {
  const startMs = cpuMs();
  const streams = photos.map((codes, photo) => coder.encode(codes, photo));
  const encodedMs = cpuMs();
  const decoded = streams.map((stream, photo) => coder.decode(stream, photo));
  const endMs = cpuMs();
  for (const [photo, codes] of decoded.entries()) {
    const original = photos[photo]!;
    if (codes.length !== original.length || !codes.every((code, i) => code === original[i])) {
      throw new IsthmusError('internal', `${coder.name} did not give back what it was given.`);
    }
  }
  return {
    encodeMs: encodedMs - startMs,
    decodeMs: endMs - encodedMs,
    numBytes: streams.reduce((sum, stream) => sum + stream.byteLength, 0),
  };
}

function measureEntropy({ photos, perChannel }: CodedCut, symbols: number): CodecCutResult['entropy'] {
  let tensor = 0;
  let channel = 0;
  for (const photo of photos) {
    tensor += entropyBits(photo);
    for (let start = 0; start < photo.length; start += perChannel) {
      channel += entropyBits(photo.subarray(start, start + perChannel));
    }
  }
  return { tensor: tensor / symbols, channel: channel / symbols };
}

/** Of all codes together, in bits. */
function entropyBits(codes: Int32Array): number {
  const counts = new Map<number, number>();
  for (const code of codes) counts.set(code, (counts.get(code) ?? 0) + 1);
  return [...counts.values()].reduce((bits, count) => bits - count * Math.log2(count / codes.length), 0);
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => Number(sorted[Math.round(share * (sorted.length - 1))]!.toPrecision(4));
  return { median: at(0.5), low: at(0.25), high: at(0.75) };
}
