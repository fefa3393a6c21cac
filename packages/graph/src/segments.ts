import { IsthmusError } from '@isthmus/core';
import { type CutCandidate, cutThrough, isSendable } from './cuts.js';
import type { FlowGraph } from './flow.js';
import type { TensorInfos } from './shapes.js';

export interface ChooseOptions {
  /** Bytes of the model's inputs, one frame. */
  inputBytes: number;
  /** Operations and weights of the whole model. */
  total: { flops: number; weightBytes: number };
  /** @default 4 */
  minSegments?: number;
  /** @default 10 */
  maxSegments?: number;
}

// Two cuts closer than this are not two choices. One is a whole model's work, or ten halvings of the bytes.
const tooClose = 0.02;
const perHalving = 0.1;
// Past the minimum, a further cut has to be worth this much.
const worthAdding = 0.05;

/**
 * Chooses where to cut, so that a planner has real choices: 4 to 10 segments, fewer only if the model has no
 * more cuts that differ.
 *
 * Cuts are compared by *progress* (the mean of the shares of operations and of weights in front) and by bytes.
 *
 * 1. Of cuts within 2 % of progress, such as before and after a Relu or a pooling, one stays: that with the
 *    fewest bytes times tensors; of equals the latest, since it leaves the cloud less and codes better.
 * 2. Then, one by one, the cut with the highest *worth* is added. That is its distance from the nearest chosen
 *    cut: the difference in progress, plus a tenth for every halving of that cut's bytes. The inputs count as
 *    chosen; so does the end, by progress alone, since a device that has come that far need not send at all.
 *    It is scaled by 0.7 for every further tensor, halved if an earlier cut has no more bytes (it costs the
 *    device more and sends no less; such a cut only spreads memory and work), and scaled by the fourth root of
 *    the input's bytes over the cut's, within a quarter and two.
 * 3. It ends at the maximum, when nothing further differs by 2 %, or past the minimum, when the best worth is
 *    small.
 *
 * Only cuts that lie one behind the other can be chosen together.
 *
 * @returns Cuts from front to back, without inputs and outputs.
 */
export function chooseCuts(candidates: readonly CutCandidate[], options: ChooseOptions): CutCandidate[] {
  const { inputBytes, total, maxSegments = 10, minSegments = Math.min(4, maxSegments) } = options;
  const distinct = dropNeighbours(candidates, options);
  const smallestBefore = new Map(
    distinct.map((cut) => [
      cut,
      distinct.reduce(
        (least, other) => (other.numBytes < least && isInFront(other, cut) ? other.numBytes : least),
        inputBytes,
      ),
    ]),
  );
  const quality = (cut: CutCandidate): number =>
    0.7 ** (cut.tensors.length - 1) *
    (cut.numBytes < smallestBefore.get(cut)! ? 1 : 0.5) *
    Math.min(2, Math.max(0.25, (inputBytes / Math.max(1, cut.numBytes)) ** 0.25));

  const distance = (cut: Place, other: Place): number =>
    Math.abs(cut.progress - other.progress) +
    perHalving * Math.max(0, Math.log2(other.numBytes / cut.numBytes));
  const start: Place = { progress: 0, numBytes: Math.max(1, inputBytes) };
  const chosen: CutCandidate[] = [];
  let rest = distinct;
  while (chosen.length < maxSegments - 1) {
    const places = [start, ...chosen.map((cut) => place(cut, total))];
    const ranked = rest
      .map((cut) => {
        const here = place(cut, total);
        const gap = Math.min(1 - here.progress, ...places.map((other) => distance(here, other)));
        return { cut, gap, worth: gap * quality(cut) };
      })
      .filter(({ gap }) => gap >= tooClose);
    const best = ranked.reduce<(typeof ranked)[number] | undefined>(
      (top, entry) => (top === undefined || entry.worth > top.worth ? entry : top),
      undefined,
    );
    if (best === undefined) break;
    if (chosen.length >= minSegments - 1 && best.worth < worthAdding) break;
    chosen.push(best.cut);
    rest = ranked.map(({ cut }) => cut).filter((cut) => isInFront(cut, best.cut) || isInFront(best.cut, cut));
  }
  return chosen.sort((a, b) => a.prefix.length - b.prefix.length);
}

/**
 * The cuts a caller named, from front to back.
 *
 * @throws IsthmusError `bundle/no-such-cut` if a tensor does not exist, does not depend on the inputs, cannot be
 * sent, does not stop everything that flows (the message says what else does), or if cuts cross each other.
 */
export function namedCuts(
  flow: FlowGraph,
  infos: TensorInfos,
  cutAt: readonly (readonly string[])[],
): CutCandidate[] {
  const cuts = cutAt.map((tensors) => {
    for (const name of tensors) {
      if (!flow.flowTensors.has(name)) {
        throw noSuchCut(`The model has no tensor ${name} that depends on its inputs.`, tensors);
      }
      if (!isSendable(infos, name)) {
        throw noSuchCut(`Tensor ${name} has no fixed shape or a type that cannot be sent.`, tensors);
      }
    }
    const result = cutThrough(flow, infos, tensors);
    if ('actual' in result) {
      throw noSuchCut(
        `[${tensors.join(', ')}] is not a cut: what flows past it is [${result.actual.join(', ')}]. ` +
          'Cut through exactly those.',
        tensors,
      );
    }
    if (result.cut.prefix.length === 0) {
      throw noSuchCut(`[${tensors.join(', ')}] are the model's inputs, which are cut 0 already.`, tensors);
    }
    if (result.cut.prefix.length === flow.nodes.filter(({ isFlow }) => isFlow).length) {
      throw noSuchCut(`[${tensors.join(', ')}] are the model's outputs, the last cut already.`, tensors);
    }
    return result.cut;
  });
  cuts.sort((a, b) => a.prefix.length - b.prefix.length);
  cuts.forEach((cut, index) => {
    const next = cuts[index + 1];
    if (next !== undefined && !isInFront(cut, next)) {
      throw noSuchCut(`[${cut.tensors}] and [${next.tensors}] do not lie one behind the other.`, cut.tensors);
    }
  });
  return cuts;
}

interface Place {
  progress: number;
  numBytes: number;
}

function place(cut: CutCandidate, total: ChooseOptions['total']): Place {
  const flopsShare = cut.flops / Math.max(1, total.flops);
  // A model without weights progresses by work alone.
  const weightShare = total.weightBytes === 0 ? flopsShare : cut.weightBytes / total.weightBytes;
  return { progress: (flopsShare + weightShare) / 2, numBytes: Math.max(1, cut.numBytes) };
}

function dropNeighbours(candidates: readonly CutCandidate[], { total }: ChooseOptions): CutCandidate[] {
  const size = (cut: CutCandidate): number => cut.numBytes * cut.tensors.length;
  const kept: { cut: CutCandidate; progress: number }[] = [];
  for (const cut of candidates.toSorted((a, b) => size(a) - size(b) || b.prefix.length - a.prefix.length)) {
    const { progress } = place(cut, total);
    if (kept.every((other) => Math.abs(other.progress - progress) >= tooClose)) kept.push({ cut, progress });
  }
  return kept.map(({ cut }) => cut);
}

// Whether all that precedes `front`, and more, precedes `back`.
function isInFront(front: CutCandidate, back: CutCandidate): boolean {
  if (front.prefix.length >= back.prefix.length) return false;
  let position = 0;
  return front.prefix.every((index) => {
    while (position < back.prefix.length && back.prefix[position]! < index) position += 1;
    return back.prefix[position] === index;
  });
}

function noSuchCut(message: string, tensors: readonly string[]): IsthmusError {
  return new IsthmusError('bundle/no-such-cut', message, { details: { tensors: [...tensors] } });
}
