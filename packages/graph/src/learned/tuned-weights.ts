import type { Tensor } from '@isthmus/core';

/** Weights of the model that were trained further together with a codec, for the segments it goes on through. */
export interface TunedWeights {
  /** The cut where the codec's own network lands, and the first tuned segment begins; before the codec's `to`. */
  via: number;
  /** By the initializer's name in the model; those that are left out stay as they are. */
  weights: ReadonlyMap<string, Tensor<'float32'>>;
}
