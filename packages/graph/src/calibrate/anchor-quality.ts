import type { Fidelity } from './fidelity.js';

/** A level whose quality is known from before, on the frames of now. */
export interface Anchor {
  frames: readonly Fidelity[];
  quality: number;
}

const tiny = 1e-9;
/** From fewer there is no telling how quality falls. */
const minAnchors = 4;

/**
 * The quality of a level by that of others, measured before on other frames: which of them it is between, by the mean
 * logarithm of its frames' divergence. A dozen frames say which of two levels is better, and little of how often a level is
 * right; so what is measured later must be put on the scale of what is there, or a planner would prefer the one or the other for
 * the frames it was measured on.
 *
 * @returns undefined if there are too few anchors; else the quality of a level's frames, 0…1, never rising with divergence.
 */
export function anchorQuality(
  anchors: readonly Anchor[],
): ((frames: readonly Fidelity[]) => number) | undefined {
  if (anchors.length < minAnchors) return undefined;
  const sorted = anchors
    .map(({ frames, quality }) => ({ position: positionOf(frames), quality, count: 1 }))
    .sort((a, b) => a.position - b.position);
  // Pooled where they rise, as in isotonic regression.
  const blocks: Block[] = [];
  for (const anchor of sorted) {
    let block = anchor;
    for (let before = blocks.at(-1); before !== undefined && before.quality <= block.quality; ) {
      block = pooled(before, block);
      blocks.pop();
      before = blocks.at(-1);
    }
    blocks.push(block);
  }
  return (frames) => {
    const position = positionOf(frames);
    const next = blocks.findIndex((block) => block.position >= position);
    // Beyond the roughest of them nothing is known but that it is no better.
    if (next < 0) return blocks.at(-1)!.quality;
    const after = blocks[next]!;
    const before = blocks[next - 1];
    if (before === undefined) return after.quality;
    const share = (position - before.position) / (after.position - before.position);
    return before.quality + share * (after.quality - before.quality);
  };
}

interface Block {
  position: number;
  quality: number;
  count: number;
}

function pooled(a: Block, b: Block): Block {
  const count = a.count + b.count;
  const mean = (x: number, y: number): number => (a.count * x + b.count * y) / count;
  return { position: mean(a.position, b.position), quality: mean(a.quality, b.quality), count };
}

function positionOf(frames: readonly Fidelity[]): number {
  return frames.reduce((sum, { divergence }) => sum + Math.log(divergence + tiny) / frames.length, 0);
}
