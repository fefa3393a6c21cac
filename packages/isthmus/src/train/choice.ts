import { IsthmusError, type Manifest, type PictureFormat } from '@isthmus/core';
import type { DecoderName, EncoderBranchName } from '@isthmus/train';

/** What can be trained: at a cut, in place of the model's beginning, or behind a picture codec. */
export const trainedCodecs = ['bottleneck', 'encoder', 'pixels+adapter'] as const;

/** What is asked of a training. */
export interface TrainingChoice {
  /** The codec's name in the bundle. */
  id: string;
  codec: (typeof trainedCodecs)[number];
  /** The cut whose tensor the codec takes; 0 but for a bottleneck. */
  from: number;
  /** The cut where its own network lands. */
  to: number;
  /** The weights of the segments from there to this cut are trained as well; `to` for none. */
  tuneTo: number;
  /** What the encoder computes beside its transform. */
  network: EncoderBranchName;
  /** What the decoder computes beside its linear part, where it lands deeper than the codec leaves. */
  decoder: DecoderName;
  /** Of pictures, for `pixels+adapter`. */
  format?: PictureFormat | undefined;
  /** Whether `pixels+adapter` has an adapter, or tuned segments only. */
  hasAdapter: boolean;
  seed: number;
}

/** The parts of a choice that a resumed training has to have in common with the one that was begun. */
export const choiceKeys: readonly (keyof TrainingChoice)[] = [
  'id',
  'codec',
  'from',
  'to',
  'tuneTo',
  'network',
  'decoder',
  'format',
  'hasAdapter',
  'seed',
];

/** The cuts whose tensors a training takes or compares. */
export interface ComparedCuts {
  /** Where the codec lands. */
  at: number;
  /** Between there and the end. */
  later: readonly number[];
  last: number;
}

/**
 * Compares where a codec lands, at one later cut, and at the end: the cut up to which segments are tuned; the next one
 * where a codec lands deeper than it left, so that a graph of features is short; else the one half-way.
 */
export function comparedCuts(
  { cuts }: Manifest,
  { from, to, tuneTo }: Pick<TrainingChoice, 'from' | 'to' | 'tuneTo'>,
): ComparedCuts {
  const last = cuts.length - 1;
  const next = tuneTo > to ? tuneTo : to > from ? to + 1 : Math.ceil((to + last) / 2);
  return { at: to, later: next > to && next < last ? [next] : [], last };
}

/**
 * Whether a codec can be trained so.
 *
 * @throws IsthmusError `usage/invalid` that says what to change
 */
export function checkChoice(manifest: Manifest, choice: TrainingChoice): void {
  const { codec, from, to, tuneTo, format, hasAdapter } = choice;
  const lastCut = manifest.cuts.length - 1;
  for (const [index, what] of [
    [from, 'leave'],
    [to, 'land'],
  ] as const) {
    checkCut(manifest, index, what);
  }
  if (from > to || to > tuneTo || tuneTo > lastCut) {
    throw invalid(
      `A codec leaves at a cut, lands there or later, and is tuned to there or later, at most to ${lastCut}; ` +
        `${from}, ${to} and ${tuneTo} will not do.`,
    );
  }
  if (codec !== 'bottleneck' && from !== 0) {
    throw invalid(`${codec} takes the frame: it leaves at cut 0, not ${from}.`);
  }
  if (codec === 'encoder' && to === 0) {
    throw invalid(
      'An encoder stands for the beginning of the model. Say with --to where it lands, such as 1.',
    );
  }
  if (codec !== 'pixels+adapter') return;
  if (to !== 0 || format === undefined) {
    throw invalid('pixels+adapter lands at cut 0, and needs a --format: webp, avif or jpeg.');
  }
  if (!hasAdapter && tuneTo === 0) {
    throw invalid('Without an adapter there is nothing to train but segments: say with --tune-to how far.');
  }
}

function checkCut(manifest: Manifest, index: number, what: 'leave' | 'land'): void {
  const cut = manifest.cuts[index];
  const lastCut = manifest.cuts.length - 1;
  if (cut === undefined || index === lastCut) {
    throw invalid(`${manifest.model} has cuts 0 to ${lastCut - 1} for a codec to ${what} at, not ${index}.`);
  }
  const [tensor] = cut.tensors;
  if (cut.tensors.length !== 1 || tensor?.type !== 'float32' || tensor.shape[0] !== 1) {
    const names = cut.tensors.map(({ name, type, shape }) => `${name}: ${type}[${shape}]`).join(', ');
    throw invalid(
      `A codec that is trained can ${what} at a cut of one float32 tensor; cut ${index} is ${names}. Choose another.`,
    );
  }
}

function invalid(message: string): IsthmusError {
  return new IsthmusError('usage/invalid', message);
}
