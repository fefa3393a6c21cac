import { buildTrainingStep, Draft, softmaxCrossEntropy, type TrainingPlan } from '@isthmus/train';
import { cifarSize, type LabelledPictures, numClasses } from './data.js';
import { cifarNet, numComponents } from './net.js';
import { randomFor } from './random.js';
import { fitWhitening, type Whitening } from './whitening.js';

/** What the training of the base model is made of. */
export interface BaseTraining {
  draft: Draft;
  plan: TrainingPlan;
  whitening: Whitening;
}

export const batchSize = 128;
/** Share of a target that is spread over all classes. */
export const smoothing = 0.1;

/** The step that trains the base model: AdamW, with an average of the weights over the last few hundred steps. */
export function buildBaseTraining(training: LabelledPictures, seed: number): BaseTraining {
  const whitening = fitWhitening(training, numComponents, seed);
  const draft = new Draft();
  const x = draft.input('x', 'float32', [batchSize, 3, cifarSize, cifarSize]);
  const targets = draft.input('targets', 'float32', [batchSize, numClasses]);
  const logits = cifarNet(draft, x, { whitening, form: 'training', random: randomFor(seed, 'weights') });
  const loss = softmaxCrossEntropy(draft, logits, targets);
  const optimizer = { beta2: 0.99, weightDecay: 0.05, clipNorm: 2, averageDecay: 0.995 };
  return { draft, plan: buildTrainingStep(draft, { loss, optimizer }), whitening };
}

/** The net as it answers, with weights and statistics still to be given. */
export function inferenceDraft(whitening: Whitening, batch: number): { draft: Draft; logits: string } {
  const draft = new Draft();
  const x = draft.input('image', 'float32', [batch, 3, cifarSize, cifarSize]);
  return { draft, logits: cifarNet(draft, x, { whitening, form: 'frozen', random: () => 0.5 }) };
}
