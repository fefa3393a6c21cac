import { readFile } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { IsthmusError } from '@isthmus/core';
import { parseTrace } from './parse-trace.js';
import { createRandom } from './random.js';
import {
  createStepTrace,
  createSyntheticTrace,
  type SyntheticKind,
  syntheticLinks,
} from './synthetic-trace.js';
import type { LinkTrace } from './trace.js';

export interface OpenTracesOptions {
  /** One way; where it is given it holds for all traces. */
  delayMs?: number | undefined;
  /** Of synthetic traces. */
  durationMs: number;
  seed: number;
}

const syntheticPrefix = 'synthetic:';

/**
 * Traces by file, or `synthetic:KIND`. The kind of a file is its folder and what its name begins with, up to the first
 * digit or dot: logs of one campaign are of one kind.
 *
 * @throws IsthmusError `usage/invalid`
 */
export async function openTraces(
  sources: readonly string[],
  options: OpenTracesOptions,
): Promise<LinkTrace[]> {
  return Promise.all(sources.map((source) => openTrace(source, options)));
}

async function openTrace(source: string, options: OpenTracesOptions): Promise<LinkTrace> {
  const { delayMs } = options;
  if (source.startsWith(syntheticPrefix)) {
    const trace = createSynthetic(source.slice(syntheticPrefix.length), options);
    return delayMs === undefined ? trace : { ...trace, delayMs };
  }
  const content = await readFile(source, 'utf8').catch((cause) => {
    throw new IsthmusError('usage/invalid', `The trace ${source} cannot be read. Is it there?`, { cause });
  });
  const name = basename(source);
  const prefix = name.replace(/[\d.].*$/, '').replace(/[-_]+$/, '');
  return parseTrace(content, { name, kind: `${basename(dirname(resolve(source)))}/${prefix}`, delayMs });
}

function createSynthetic(kind: string, { durationMs, seed }: OpenTracesOptions): LinkTrace {
  if (kind === 'step') return createStepTrace();
  if (!isSyntheticKind(kind)) {
    const kinds = [...Object.keys(syntheticLinks), 'step'].join(', ');
    throw new IsthmusError('usage/invalid', `There is no synthetic trace "${kind}"; there are: ${kinds}.`);
  }
  return createSyntheticTrace(kind, { durationMs, random: createRandom(seed) });
}

const isSyntheticKind = (kind: string): kind is SyntheticKind => Object.hasOwn(syntheticLinks, kind);
