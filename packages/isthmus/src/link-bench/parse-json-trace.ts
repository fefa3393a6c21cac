import { IsthmusError } from '@isthmus/core';
import { z } from 'zod';
import { type TraceSegment, untilNext } from './trace.js';

/** What a JSON trace says; `delayMs` undefined where it is silent. */
export interface JsonTrace {
  segments: TraceSegment[];
  delayMs: number | undefined;
  lossless: boolean;
}

const amount = z.number().nonnegative();
const share = z.number().min(0).max(1);
const schema = z.union([
  z
    .array(z.object({ duration_ms: amount, bandwidth_kbps: amount, latency_ms: z.exactOptional(amount) }))
    .min(1),
  z
    .array(
      z.object({
        timestamp: amount,
        bandwidth: amount,
        delay: z.exactOptional(amount),
        loss: z.exactOptional(share),
      }),
    )
    .min(1),
  z.object({
    timestamps: z.array(amount).min(1),
    bandwidths: z.array(amount).min(1),
    delays: z.exactOptional(z.union([amount, z.array(amount)])),
    loss: z.exactOptional(z.union([share, z.array(share)])),
  }),
]);

/**
 * Three kinds of JSON:
 *
 * - `[{ duration_ms, bandwidth_kbps, latency_ms? }]`, as the simulator Sabre takes them (Spiteri et al., MMSys 2018);
 *   its latency is that of a request, so half of it is the delay one way.
 * - `[{ timestamp, bandwidth, delay?, loss? }]`: seconds, Mbit/s, milliseconds one way, share of packets lost.
 * - `{ timestamps, bandwidths, delays?, loss? }`, the same by columns, as Genet has them (Xia et al., SIGCOMM 2022).
 *
 * Delays are averaged over time. Loss takes its share off the rate: that is what retransmitting costs at the least;
 * that it also costs time, and makes congestion control hold back, is not modelled.
 *
 * @throws IsthmusError `usage/invalid`
 */
export function parseJsonTrace(content: string, name: string): JsonTrace {
  let json: unknown;
  try {
    json = JSON.parse(content);
  } catch (cause) {
    throw new IsthmusError('usage/invalid', `The trace ${name} is not JSON, though it begins like it.`, {
      cause,
    });
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    throw new IsthmusError(
      'usage/invalid',
      `The trace ${name} is none of the JSON formats of traces: give [{ duration_ms, bandwidth_kbps, latency_ms }], [{ timestamp, bandwidth, delay, loss }] or { timestamps, bandwidths, delays, loss }.`,
      { cause: parsed.error },
    );
  }
  const samples = asSamples(parsed.data, name);
  const totalMs = samples.reduce((sum, { durationMs }) => sum + durationMs, 0);
  const told = samples.filter(({ delayMs }) => delayMs !== undefined);
  const delaySum = told.reduce((sum, { delayMs = 0, durationMs }) => sum + delayMs * durationMs, 0);
  return {
    segments: samples.map(({ durationMs, rateBps, loss }) => ({ durationMs, rateBps: rateBps * (1 - loss) })),
    delayMs: told.length === samples.length && totalMs > 0 ? delaySum / totalMs : undefined,
    lossless: samples.every(({ loss }) => loss === 0),
  };
}

interface Sample extends TraceSegment {
  delayMs: number | undefined;
  loss: number;
}

function asSamples(data: z.infer<typeof schema>, name: string): Sample[] {
  if (!Array.isArray(data)) {
    const { timestamps, bandwidths, delays, loss } = data;
    const columns = [bandwidths, delays, loss].filter((column) => Array.isArray(column));
    if (columns.some(({ length }) => length !== timestamps.length)) {
      throw new IsthmusError('usage/invalid', `The columns of the trace ${name} are not of one length.`);
    }
    const at = (column: number | number[] | undefined, i: number): number | undefined =>
      Array.isArray(column) ? column[i] : column;
    const rows = timestamps.map((timestamp, i) => ({
      timestamp,
      bandwidth: bandwidths[i] ?? 0,
      delay: at(delays, i),
      loss: at(loss, i),
    }));
    return timed(rows, name);
  }
  return data.some((row) => 'timestamp' in row)
    ? timed(
        data.filter((row) => 'timestamp' in row),
        name,
      )
    : data
        .filter((row) => 'duration_ms' in row)
        .map(({ duration_ms, bandwidth_kbps, latency_ms }) => ({
          durationMs: duration_ms,
          rateBps: 1000 * bandwidth_kbps,
          delayMs: latency_ms === undefined ? undefined : latency_ms / 2,
          loss: 0,
        }));
}

interface TimedRow {
  timestamp: number;
  bandwidth: number;
  delay?: number | undefined;
  loss?: number | undefined;
}

function timed(rows: readonly TimedRow[], name: string): Sample[] {
  const samples = rows.map(({ timestamp, bandwidth }) => ({
    atMs: 1000 * timestamp,
    rateBps: 1e6 * bandwidth,
  }));
  if (samples.some(({ atMs }, i) => i > 0 && atMs <= (samples[i - 1]?.atMs ?? 0))) {
    throw new IsthmusError('usage/invalid', `The times of the trace ${name} do not ascend.`);
  }
  return untilNext(samples).map((segment, i) => ({
    ...segment,
    delayMs: rows[i]?.delay,
    loss: rows[i]?.loss ?? 0,
  }));
}
