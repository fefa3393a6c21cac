import type { Draft } from '../draft.js';

/** A codec to be trained, as what it adds to a draft. Parameters have the same names in every draft. */
export interface CodecArchitecture {
  /** Of the cut whose tensor the encoder takes: [1, …]. */
  readonly input: { readonly name: string; readonly shape: readonly number[] };
  /** Of the cut where the decoder lands: [1, …]. */
  readonly output: { readonly name: string; readonly shape: readonly number[] };
  /** Of one latent: [1, channels, height, width]. */
  readonly latentShape: readonly [1, number, number, number];
  /** How large the latent's channels are when training begins: their standard deviations. */
  readonly deviations: ArrayLike<number>;
  /** @returns The latent of a batch: [batch, channels, height, width]. */
  addEncoder(draft: Draft, x: string): string;
  /**
   * @param level Of each frame, [batch, 1, 1, 1]: 0 for the finest step, 1 for the roughest.
   * @returns The output cut's tensor, decoded.
   */
  addDecoder(draft: Draft, latent: string, level: string): string;
}
