import type { Draft } from '../draft.js';
import { gdn } from '../gdn.js';
import { drawWeights } from '../layers.js';
import { Ops } from '../ops.js';
import { conv, lastPace, silent } from './paced.js';

/** What an encoder computes beside its transform: convolutions down to the latent's grid. */
export interface BranchShape {
  /** Channels at twice the latent's grid, where the transform's blocks are larger than 2 × 2. */
  stem: number;
  /** Channels on the latent's grid. */
  body: number;
  /** Residual blocks on the latent's grid. */
  numBlocks: number;
  /** What follows the stem. */
  stemActivation: 'relu' | 'gdn';
}

/** What encoders compute beside their transform, by name. */
export type EncoderBranchName = 'none' | 'small' | 'medium';

/** From pixels of 224², with 64 components, 13 and 46 million operations. */
export const encoderBranches: Readonly<Record<EncoderBranchName, BranchShape | undefined>> = {
  none: undefined,
  small: { stem: 16, body: 24, numBlocks: 0, stemActivation: 'relu' },
  medium: { stem: 16, body: 32, numBlocks: 1, stemActivation: 'gdn' },
};

/**
 * Draws a branch's weights and says how it is added. Its last layer is zero at first, so that the encoder starts as the
 * transform alone.
 *
 * @param block Pixels or positions along the edge of what becomes one position of the latent; a power of 2.
 */
export function createBranch(
  shape: BranchShape,
  given: { channels: number; block: number; numComponents: number; random: () => number },
): (draft: Draft, x: string) => string {
  const { channels, block, numComponents, random } = given;
  const { stem, body, numBlocks, stemActivation } = shape;
  const hasStem = block > 2;
  const draw = (to: number, from: number, size: number) =>
    drawWeights([to, from, size, size], from * size * size, random);
  const stemKernel = hasStem ? draw(stem, channels, block / 2) : undefined;
  const bodyKernel = draw(body, hasStem ? stem : channels, 3);
  const blocks = Array.from({ length: numBlocks }, () => draw(body, body, 3));
  return (draft, x) => {
    const ops = new Ops(draft);
    let maps = x;
    if (stemKernel !== undefined) {
      maps = conv(draft, maps, 'encoder.stem', stemKernel, block / 2);
      maps =
        stemActivation === 'gdn' ? gdn(draft, maps, { name: 'encoder.stem' }) : draft.node('Relu', [maps]);
    }
    maps = draft.node('Relu', [conv(draft, maps, 'encoder.body', bodyKernel, Math.min(2, block))]);
    for (const [index, kernel] of blocks.entries()) {
      const name = `encoder.block${index}`;
      const inner = draft.node('Relu', [conv(draft, maps, `${name}.first`, kernel)]);
      maps = ops.add(maps, conv(draft, inner, `${name}.second`, silent([body, body, 3, 3])));
    }
    return ops.scale(conv(draft, maps, 'encoder.last', silent([numComponents, body, 1, 1])), lastPace);
  };
}
