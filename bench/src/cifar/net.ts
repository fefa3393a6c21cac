import { batchNorm, conv2d, type Draft, drawWeights, frozenBatchNorm } from '@isthmus/train';
import { numClasses } from './data.js';
import type { Whitening } from './whitening.js';

/** Principal components of patches that the first layer gives. */
export const numComponents = 12;
const widths = [32, 128, 128] as const;

export interface NetOptions {
  whitening: Whitening;
  /** In training, batch norms take the statistics of their batch; frozen, those that training came to. */
  form: 'training' | 'frozen';
  /** Draws the weights to start from. */
  random: () => number;
}

/**
 * Logits of pictures [batch, 3, 32, 32]: a whitening convolution, then three blocks of convolution, pooling, batch norm,
 * Relu, and convolution, batch norm, Relu (after Jordan, 94% on CIFAR-10 in 3.29 Seconds, 2024, at half the width), the
 * last with a residual branch. 0.65 million parameters, 43 million multiplications a picture, as many as a ResNet-20's.
 */
export function cifarNet(draft: Draft, x: string, { whitening, form, random }: NetOptions): string {
  // Named, since the tensors of cuts are called so in a bundle.
  const relu = (input: string, output: string): string => draft.node('Relu', [input], {}, { output });
  const pool = (input: string, kernel: number): string =>
    draft.node('MaxPool', [input], { kernel_shape: [kernel, kernel], strides: [kernel, kernel] });
  const normalized = (input: string, name: string): string => {
    const options = { name: `${name}.norm` };
    const norm =
      form === 'training' ? batchNorm(draft, input, options).output : frozenBatchNorm(draft, input, options);
    return relu(norm, name);
  };
  const conv = (input: string, name: string, channels: number): string =>
    conv2d(draft, input, { name, channels, kernel: 3, bias: false, random });

  const constants = [
    draft.constant(whitening.weight, 'whitening.weight'),
    draft.constant(whitening.bias, 'whitening.bias'),
  ];
  const whitened = draft.node('Conv', [x, ...constants], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] });
  let features = relu(whitened, 'whitened');
  for (const [index, channels] of widths.entries()) {
    const name = `block${index}`;
    features = normalized(pool(conv(features, `${name}.a`, channels), 2), `${name}.a`);
    const inner = normalized(conv(features, `${name}.b`, channels), `${name}.b`);
    if (index < widths.length - 1) features = inner;
    else {
      const outer = normalized(conv(inner, `${name}.c`, channels), `${name}.c`);
      features = draft.node('Add', [features, outer], {}, { output: name });
    }
  }
  const [, channels = 1, size = 1] = draft.shapeOf(features);
  const pooled = draft.node('Flatten', [pool(features, size)], { axis: 1 });
  const weight = draft.parameter('head.weight', drawWeights([channels, numClasses], 6 * channels, random));
  return draft.node('MatMul', [pooled, weight], {}, { output: 'logits' });
}
