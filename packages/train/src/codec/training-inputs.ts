/** Inputs of a training draft. */
export const trainingInputs = {
  /** The tensor that the encoder takes, or the decoded picture. */
  features: 'train/features',
  /** Of each frame, [batch, 1, 1, 1]. */
  step: 'train/step',
  level: 'train/level',
  /** Like the latent: uniform from −½ to ½. */
  noise: 'train/noise',
  /** [1] */
  hardness: 'train/hardness',
  /** [batch]: what a coded picture took. */
  bits: 'train/bits',
  /** [batch, terms]: what each term counts for each frame. */
  weights: 'train/weights',
  target: (name: string): string => `train/target/${name}`,
} as const;

/** Of each frame: rate in bits; relative errors at the cut and at later ones; divergence or error of the outputs. */
export const trainingTerms = ['rate', 'features', 'later', 'outputs'] as const;
export type TrainingTerm = (typeof trainingTerms)[number];
