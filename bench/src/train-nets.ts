import { elementCount } from '@isthmus/core';
import { float32Tensor } from '@isthmus/graph';
import { addNoise, batchNorm, conv2d, Draft, meanSquaredError, softmaxCrossEntropy } from '@isthmus/train';

/** A net and its loss, and how many pictures go through it in a step. */
export interface TrainedNet {
  draft: Draft;
  loss: string;
  batch: number;
}

/** Numbers in [0, 1), the same every time (Lehmer's generator). */
function seededRandom(seed: number): () => number {
  let state = (seed * 7919 + 17) % 2147483647;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

/**
 * A learned codec's encoder and decoder: three strided convolutions to 32 channels, noise in place of rounding, three
 * convolutions back to a feature map, whose mean squared error is weighed against the bits of a logistic prior.
 */
export function codecNet(): TrainedNet {
  const batch = 8;
  const draft = new Draft();
  const random = seededRandom(1);
  const relu = (x: string): string => draft.node('Relu', [x]);
  const x = draft.input('x', 'float32', [batch, 3, 224, 224]);
  let y = relu(conv2d(draft, x, { name: 'e1', channels: 64, kernel: 5, stride: 2, random }));
  y = relu(conv2d(draft, y, { name: 'e2', channels: 48, kernel: 5, stride: 2, random }));
  y = conv2d(draft, y, { name: 'e3', channels: 32, kernel: 3, stride: 2, random });
  const latent = addNoise(draft, y, 'noise');
  y = relu(conv2d(draft, latent, { name: 'd1', channels: 64, kernel: 3, random }));
  y = relu(conv2d(draft, y, { name: 'd2', channels: 64, kernel: 3, random }));
  y = conv2d(draft, y, { name: 'd3', channels: 64, kernel: 3, random });
  const features = draft.input('features', 'float32', draft.shapeOf(y));
  const distortion = meanSquaredError(draft, y, features);
  const rate = draft.node('Mul', [logisticBits(draft, latent), draft.scalar(1e-3 / batch)]);
  return { draft, loss: draft.node('Add', [distortion, rate]), batch };
}

// −Σ log2 of the probability of half a step to each side, under a logistic distribution for each channel.
function logisticBits(draft: Draft, latent: string): string {
  const [, channels = 1] = draft.shapeOf(latent);
  const perChannel = (name: string): string =>
    draft.parameter(name, float32Tensor(new Float32Array(channels), [1, channels, 1, 1]), { decays: false });
  const centred = draft.node('Sub', [latent, perChannel('prior.mean')]);
  const steepness = draft.node('Exp', [draft.node('Neg', [perChannel('prior.scale')])]);
  const below = (offset: number): string => {
    const shifted = draft.node('Add', [centred, draft.scalar(offset)]);
    return draft.node('Sigmoid', [draft.node('Mul', [shifted, steepness])]);
  };
  const probability = draft.node('Max', [draft.node('Sub', [below(0.5), below(-0.5)]), draft.scalar(1e-9)]);
  const nats = draft.node('ReduceSum', [draft.node('Log', [probability])], { keepdims: 0 });
  return draft.node('Mul', [nats, draft.scalar(-1 / Math.LN2)]);
}

/** ResNet-20 for pictures of 32 by 32 (He et al., 2016), with batch normalization. */
export function resNet20(): TrainedNet {
  const batch = 64;
  const draft = new Draft();
  const random = seededRandom(2);
  const relu = (x: string): string => draft.node('Relu', [x]);
  const unit = (x: string, name: string, channels: number, kernel = 3, stride = 1): string =>
    batchNorm(draft, conv2d(draft, x, { name, channels, kernel, stride, bias: false, random }), {
      name: `${name}.bn`,
    }).output;
  let x = draft.input('x', 'float32', [batch, 3, 32, 32]);
  x = relu(unit(x, 'stem', 16));
  for (const [stage, channels] of [16, 32, 64].entries()) {
    for (let block = 0; block < 3; block++) {
      const name = `stage${stage}.${block}`;
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const inner = relu(unit(x, `${name}.a`, channels, 3, stride));
      const skip = stride === 1 ? x : unit(x, `${name}.skip`, channels, 1, stride);
      x = relu(draft.node('Add', [unit(inner, `${name}.b`, channels), skip]));
    }
  }
  const pooled = draft.node('GlobalAveragePool', [x]);
  const logits = draft.node('Flatten', [
    conv2d(draft, pooled, { name: 'head', channels: 10, kernel: 1, random }),
  ]);
  const targets = draft.input('targets', 'float32', [batch, 10]);
  return { draft, loss: softmaxCrossEntropy(draft, logits, targets), batch };
}

/** Numbers for every input of a net: noise from −½ to ½, one class each for targets. */
export function feedsFor({ draft }: TrainedNet): Record<string, ReturnType<typeof float32Tensor>> {
  const random = seededRandom(3);
  return Object.fromEntries(
    draft.inputs.map((name) => {
      const shape = draft.shapeOf(name);
      const values = Float32Array.from({ length: elementCount(shape) }, (_, index) =>
        name === 'targets' ? Number(index % 10 === Math.floor(index / 10) % 10) : random() - 0.5,
      );
      return [name, float32Tensor(values, shape)];
    }),
  );
}
