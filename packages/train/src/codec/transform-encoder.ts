import { type CutTransform, float32Tensor } from '@isthmus/graph';
import type { Draft } from '../draft.js';
import { Ops } from '../ops.js';
import { type BranchShape, createBranch } from './encoder-branch.js';
import { paced } from './paced.js';
import { type Kernels, scaledKernels, unitScale } from './transform-kernels.js';

/**
 * How much slower a transform moves than a network beside it: Adam moves every weight equally far, and hundreds of
 * them together would undo in a few steps what the large components need to be exact to a small one's size.
 */
export const transformPace = 0.03;
/** Factors of whole components, of which there are few, may move faster: they say which get more bits. */
const gainPace = 0.3;
// Components are made equally large for networks, but for those that hardly ever speak.
const leastDeviation = 0.1;

export interface TransformEncoderOptions {
  /** Where training starts from. */
  start: CutTransform;
  /** Components of the transform that are kept, the largest first. */
  numComponents: number;
  /** What is computed beside the transform. @default nothing */
  branch?: BranchShape | undefined;
  /** In [0, 1): draws the weights that do not come from the transform. */
  random: () => number;
}

/** An encoder that starts as the transform of a cut, and what its decoder needs to know of it. */
export interface TransformEncoder {
  readonly kernels: Kernels;
  readonly latentShape: readonly [1, number, number, number];
  readonly deviations: Float64Array;
  add(draft: Draft, x: string): string;
  /** The latent without the factors that encoder and decoder share. */
  addUngained(draft: Draft, latent: string): string;
  /** The latent as a network likes it: all components about equally large. */
  addEvened(draft: Draft, ungained: string): string;
}

/**
 * A convolution over blocks to principal components, and beside it, if wanted, a small network that starts at zero.
 * What is trained of the transform are changes to it, in units that one learning rate suits.
 */
export function transformEncoder(options: TransformEncoderOptions): TransformEncoder {
  const { start, numComponents, branch, random } = options;
  const { layout, transform, means } = start;
  const { channels, height, width, block } = layout;
  const { scale, deviations } = unitScale(transform.variances, numComponents);
  const kernels = scaledKernels(start, numComponents, scale);
  const factorShape = [1, numComponents, 1, 1];
  const evening = evenFactors(deviations);
  const addBranch =
    branch === undefined ? undefined : createBranch(branch, { channels, block, numComponents, random });
  const inputScale = deviationOf(start);
  // Encoder and decoder share them, and one draft may hold both.
  const gainOf = (draft: Draft): string => {
    const ops = new Ops(draft);
    const name = 'gain';
    if (!draft.has(name)) draft.parameter(name, float32Tensor(new Float32Array(numComponents), factorShape));
    return ops.unary('Exp', ops.scale(name, gainPace));
  };
  return {
    kernels,
    latentShape: [1, numComponents, height / block, width / block],
    deviations,
    add(draft, x) {
      const ops = new Ops(draft);
      const [batch = 1] = draft.shapeOf(x);
      let maps = layout.channelsLast ? ops.transpose(x, [0, 2, 1]) : x;
      maps = ops.reshape(maps, [batch, channels, height, width]);
      const centred = ops.sub(maps, ops.floats(Float32Array.from(means), [1, channels, 1, 1]));
      const forwardShape = [numComponents, channels, block, block];
      const weight = paced(draft, 'encoder.weight', kernels.forward, forwardShape, transformPace);
      const bias = draft.parameter('encoder.bias', float32Tensor(new Float32Array(numComponents)));
      const grid = { kernel_shape: [block, block], strides: [block, block] };
      const unit = draft.node('Conv', [centred, weight, bias], grid);
      const gain = gainOf(draft);
      const linear = ops.mul(unit, ops.mul(gain, ops.floats(kernels.forwardFactors, factorShape)));
      if (addBranch === undefined) return linear;
      const seen = addBranch(draft, ops.scale(centred, 1 / inputScale));
      const sized = ops.mul(
        seen,
        ops.floats(
          evening.map((value) => 1 / value),
          factorShape,
        ),
      );
      return ops.add(linear, ops.mul(sized, gain));
    },
    addUngained: (draft, latent) => new Ops(draft).div(latent, gainOf(draft)),
    addEvened(draft, ungained) {
      const ops = new Ops(draft);
      return ops.mul(ungained, ops.floats(evening, factorShape));
    },
  };
}

/** What makes components about equally large. */
export function evenFactors(deviations: ArrayLike<number>): Float32Array<ArrayBuffer> {
  return Float32Array.from(deviations, (deviation) => 1 / (deviation + leastDeviation));
}

// Of the cut's numbers: the root of their mean variance, from what the transform's components have of it.
function deviationOf({ transform }: CutTransform): number {
  const { backward, variances, numComponents } = transform;
  const size = backward.length / numComponents;
  let power = 0;
  for (let i = 0; i < size; i++) {
    for (let k = 0; k < numComponents; k++) {
      power += (backward[i * numComponents + k] ?? 0) ** 2 * (variances[k] ?? 0);
    }
  }
  return Math.sqrt(power / size) || 1;
}
