import { float32Tensor } from '@isthmus/graph';
import type { Draft } from '../draft.js';
import { lowerBound } from '../gdn.js';
import { Ops } from '../ops.js';
import type { Quantized } from './quantizer.js';

/** Parameters of the rate move so much faster than weights do. */
const haste = 10;
const leastProbability = 1e-9;
const leastScale = 0.02;
/** Earlier channels whose magnitude at the same position says something of the next one's. */
const numEarlier = 8;

/**
 * The bits of each frame's latent, [batch]: every integer has a logistic distribution around zero, whose scale is a
 * channel's own, plus what its neighbours above and to the left and the channels before suggest, as the coder of
 * `calibrated` has it. Only the noisy value has a gradient, not what it is expected from.
 *
 * @param deviations Of the latent's channels, in the latent's units.
 */
export function addRate(
  draft: Draft,
  { noisy, integers }: Quantized,
  step: string,
  deviations: ArrayLike<number>,
): string {
  const ops = new Ops(draft);
  const [, channels = 1] = draft.shapeOf(noisy);
  const perChannel = (name: string, start: (channel: number) => number): string => {
    const change = draft.parameter(
      `rate.${name}`,
      float32Tensor(new Float32Array(channels), [1, channels, 1, 1]),
      {
        decays: false,
      },
    );
    const values = Float32Array.from({ length: channels }, (_, channel) => Math.log(start(channel)));
    const logarithm = ops.add(ops.scale(change, haste), ops.floats(values, [1, channels, 1, 1]));
    return ops.unary('Exp', logarithm);
  };
  const own = ops.div(
    perChannel('own', (channel) => 0.25 * (deviations[channel] || 1e-3)),
    step,
  );
  const sizes = ops.unary('Abs', integers);
  const near = ops.mul(
    addNeighbours(ops, sizes),
    perChannel('near', () => 0.25),
  );
  const before = ops.mul(
    addEarlier(ops, sizes),
    perChannel('before', () => 0.1),
  );
  const scale = lowerBound(draft, ops.sum([own, near, before]), leastScale);
  const magnitude = ops.unary('Abs', noisy);
  const upper = ops.unary('Sigmoid', ops.div(ops.shift(ops.unary('Neg', magnitude), 0.5), scale));
  const lower = ops.unary('Sigmoid', ops.div(ops.shift(ops.unary('Neg', magnitude), -0.5), scale));
  const probability = lowerBound(draft, ops.sub(upper, lower), leastProbability);
  const nats = ops.reduceSum(ops.unary('Log', probability), [1, 2, 3], false);
  return ops.scale(nats, -1 / Math.LN2);
}

// The mean of what is left, above, and above to either side.
function addNeighbours(ops: Ops, sizes: string): string {
  const [, channels = 1] = ops.draft.shapeOf(sizes);
  const kernel = [1, 1, 1, 1, 0, 0, 0, 0, 0].map((value) => value / 4);
  const weights = Float32Array.from({ length: 9 * channels }, (_, index) => kernel[index % 9] ?? 0);
  return ops.draft.node('Conv', [sizes, ops.floats(weights, [channels, 1, 3, 3])], {
    kernel_shape: [3, 3],
    pads: [1, 1, 1, 1],
    group: channels,
  });
}

function addEarlier(ops: Ops, sizes: string): string {
  const [, channels = 1] = ops.draft.shapeOf(sizes);
  const weights = new Float32Array(channels * channels);
  for (let channel = 0; channel < channels; channel++) {
    const first = Math.max(0, channel - numEarlier);
    for (let earlier = first; earlier < channel; earlier++) {
      weights[channel * channels + earlier] = 1 / (channel - first);
    }
  }
  return ops.draft.node('Conv', [sizes, ops.floats(weights, [channels, channels, 1, 1])], {
    kernel_shape: [1, 1],
  });
}
