import { float32Tensor } from '@isthmus/graph';
import type { Draft } from '../draft.js';
import { drawWeights } from '../layers.js';
import { Ops } from '../ops.js';
import { conv, lastPace, silent } from './paced.js';

/** A network that mends decoded pictures before the model takes them. */
export interface Adapter {
  /** The tensor of cut 0: [1, channels, height, width]. */
  readonly input: { readonly name: string; readonly shape: readonly number[] };
  /** @param level Of each frame, [batch, 1, 1, 1]: 0 for the finest quality, 1 for the roughest. */
  add(draft: Draft, picture: string, level: string): string;
}

export interface AdapterOptions {
  input: { readonly name: string; readonly shape: readonly number[] };
  /** Standard deviation of the tensor's numbers. */
  deviation: number;
  /** In [0, 1): draws the weights to start from. */
  random: () => number;
  /** @default 24 */
  width?: number;
}

/**
 * Three 3×3 convolutions at half the resolution, added to the picture; the last is zero at first, so that training
 * starts from the picture as it was decoded. At 224², 130 million multiply-adds.
 */
export function pictureAdapter({ input, deviation, random, width = 24 }: AdapterOptions): Adapter {
  const [, channels = 1, height = 1, columns = 1] = input.shape;
  const block = height % 2 === 0 && columns % 2 === 0 ? 2 : 1;
  const size = channels * block * block;
  const firstKernel = drawWeights([width, size, 3, 3], 9 * size, random);
  const secondKernel = drawWeights([width, width, 3, 3], 9 * width, random);
  return {
    input,
    add(draft, picture, level) {
      const ops = new Ops(draft);
      const unit = ops.scale(picture, 1 / (deviation || 1));
      const maps = block === 1 ? unit : draft.node('SpaceToDepth', [unit], { blocksize: block });
      const told = (name: string): string => {
        const values = float32Tensor(new Float32Array(width), [1, width, 1, 1]);
        return ops.mul(level, draft.parameter(`adapter.${name}`, values));
      };
      const seen = conv(draft, maps, 'adapter.first', firstKernel);
      const first = draft.node('Relu', [ops.add(seen, told('level'))]);
      const second = draft.node('Relu', [
        ops.add(conv(draft, first, 'adapter.second', secondKernel), told('later-level')),
      ]);
      const last = conv(draft, second, 'adapter.last', silent([size, width, 3, 3]));
      const mended = ops.add(maps, ops.scale(last, lastPace));
      const whole =
        block === 1 ? mended : draft.node('DepthToSpace', [mended], { blocksize: block, mode: 'DCR' });
      return ops.scale(whole, deviation || 1);
    },
  };
}
