import type { Draft } from '../draft.js';
import { Ops } from '../ops.js';

/** Names of a quantizer's inputs in a draft. */
export interface QuantizerInputs {
  /** Of each frame: [batch, 1, 1, 1]. */
  step: string;
  /** Uniform from −½ to ½, like the latent. */
  noise: string;
  /** One number: 1 decodes what was rounded, 0 what noise was added to. */
  hardness: string;
}

export interface Quantized {
  /** In steps, with noise: what the rate is estimated of. */
  noisy: string;
  /** What the coder would send. No gradient flows through it. */
  integers: string;
  /** In the latent's units, as the decoder takes it. */
  decoded: string;
}

// As the coder rounds where bits have a price: what is below 0.6 steps becomes zero.
const roundingOffset = 0.4;

/**
 * Quantization as training sees it: for the rate noise in place of rounding (Ballé, Laparra and Simoncelli, 2017), for
 * the decoder rounding with a dead zone through which gradients pass as if it were not there (Theis et al., Lossy Image
 * Compression with Compressive Autoencoders, 2017; both together: Minnen and Singh, Channel-wise Autoregressive Entropy
 * Models, 2020).
 */
export function addQuantizer(draft: Draft, latent: string, inputs: QuantizerInputs): Quantized {
  const ops = new Ops(draft);
  const scaled = ops.div(latent, inputs.step);
  let integers = '';
  const [decoded = ''] = draft.composite(
    'quantization',
    [scaled],
    () => {
      const magnitude = draft.node('Floor', [ops.shift(ops.unary('Abs', scaled), roundingOffset)]);
      integers = ops.mul(ops.unary('Sign', scaled), magnitude);
      const soft = ops.add(scaled, inputs.noise);
      const difference = ops.mul(ops.sub(integers, soft), inputs.hardness);
      return [ops.add(soft, difference)];
    },
    ({ gradient }) => [gradient],
  );
  return { noisy: ops.add(scaled, inputs.noise), integers, decoded: ops.mul(decoded, inputs.step) };
}
