import { IsthmusError } from '@isthmus/core';
import { parseJsonTrace } from './parse-json-trace.js';
import { createLinkTrace, type LinkTrace, type TraceSegment, untilNext } from './trace.js';

export interface TraceFileOptions {
  /** For messages and results. */
  name: string;
  kind: string;
  /** One way, for files that do not tell; where given, files that do tell are not asked. */
  delayMs?: number | undefined;
}

/** One-way delay of traces that say nothing about it: an ordinary mobile network to a server in the region. */
const defaultDelayMs = 20;
/** Bytes of one delivery opportunity of Mahimahi: an Ethernet frame without its checksum. */
const opportunityBytes = 1504;
// Four weeks in milliseconds: longer is not a trace but a mistake.
const maxOpportunityMs = 2_419_200_000;

/**
 * A trace from the text of a file, of whichever format it is:
 *
 * - Mahimahi (Netravali et al., USENIX ATC 2015): one whole number of milliseconds a line, at which a packet of 1504
 *   bytes can leave. Spread here over the millisecond that ends then. The last line ends the period.
 * - Two numbers a line: seconds and Mbit/s, each rate until the next line's time.
 * - JSON: see `parseJsonTrace`.
 *
 * Empty lines and what follows a `#` do not count.
 *
 * @throws IsthmusError `usage/invalid` with what is wrong and on which line
 */
export function parseTrace(content: string, options: TraceFileOptions): LinkTrace {
  const { name, kind } = options;
  const first = content.trimStart()[0];
  if (first === '[' || first === '{') {
    const { segments, delayMs, lossless } = parseJsonTrace(content, name);
    const usedDelayMs = options.delayMs ?? delayMs ?? defaultDelayMs;
    return createLinkTrace({ name, kind, segments, delayMs: usedDelayMs, lossless });
  }
  const rows = readRows(content, name);
  const [firstRow] = rows;
  if (firstRow === undefined) {
    throw new IsthmusError('usage/invalid', `The trace ${name} is empty. Was it downloaded whole?`);
  }
  const numbers = firstRow.values.length;
  const odd = rows.find(({ values }) => values.length !== numbers);
  if (odd !== undefined) throw wrong(name, odd.line, `holds ${odd.values.length} numbers, line 1 ${numbers}`);
  const segments = numbers === 1 ? opportunities(rows, name) : timedRates(rows, name);
  return createLinkTrace({ name, kind, segments, delayMs: options.delayMs ?? defaultDelayMs });
}

interface Row {
  line: number;
  values: number[];
}

function readRows(content: string, name: string): Row[] {
  const rows: Row[] = [];
  for (const [index, whole] of content.split('\n').entries()) {
    const text = whole.replace(/#.*/, '').trim();
    if (text === '') continue;
    const values = text.split(/[\s,;]+/).map(Number);
    if (values.length > 2 || !values.every(Number.isFinite)) {
      const shown = text.length > 40 ? `${text.slice(0, 40)}…` : text;
      const formats = 'milliseconds (Mahimahi), or seconds and Mbit/s, or JSON';
      throw wrong(name, index + 1, `says "${shown}"; lines are ${formats}`);
    }
    rows.push({ line: index + 1, values });
  }
  return rows;
}

function opportunities(rows: readonly Row[], name: string): TraceSegment[] {
  let previousMs = 0;
  for (const { line, values } of rows) {
    const [atMs = 0] = values;
    if (!Number.isSafeInteger(atMs) || atMs < previousMs || atMs > maxOpportunityMs) {
      throw wrong(name, line, `is at ${atMs} ms: delivery times are whole milliseconds that never go back`);
    }
    previousMs = atMs;
  }
  const periodMs = previousMs;
  if (periodMs === 0) throw wrong(name, rows.at(-1)?.line ?? 1, 'is the last, and at 0 ms');
  // What is delivered at 0 is what is delivered at the end of the period before.
  const times = rows.map(({ values: [atMs = 0] }) => (atMs === 0 ? periodMs : atMs)).sort((a, b) => a - b);
  const segments: TraceSegment[] = [];
  let endMs = 0;
  for (let i = 0; i < times.length; ) {
    const atMs = times[i]!;
    let count = 0;
    for (; times[i] === atMs; i++) count++;
    if (atMs - 1 > endMs) segments.push({ durationMs: atMs - 1 - endMs, rateBps: 0 });
    segments.push({ durationMs: 1, rateBps: 8000 * opportunityBytes * count });
    endMs = atMs;
  }
  return segments;
}

function timedRates(rows: readonly Row[], name: string): TraceSegment[] {
  const samples = rows.map(({ line, values: [atSeconds = 0, rateMbps = 0] }) => {
    if (rateMbps < 0) throw wrong(name, line, `has a rate of ${rateMbps} Mbit/s`);
    return { atMs: 1000 * atSeconds, rateBps: 1e6 * rateMbps, line };
  });
  for (const [index, { atMs, line }] of samples.entries()) {
    const before = samples[index - 1];
    if (before !== undefined && atMs <= before.atMs) throw wrong(name, line, 'goes back in time');
  }
  return untilNext(samples);
}

function wrong(name: string, line: number, what: string): IsthmusError {
  return new IsthmusError('usage/invalid', `The trace ${name} is not sound: line ${line} ${what}.`);
}
