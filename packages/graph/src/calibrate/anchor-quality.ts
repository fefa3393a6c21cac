import type { Fidelity } from './fidelity.js';

/** A level whose quality is known from before, on the frames of now. */
export interface Anchor {
  frames: readonly Fidelity[];
  quality: number;
}

/** From fewer there is no telling how quality falls. */
const minAnchors = 4;
/** No change, and no loss, on logarithmic scales. */
const leastChange = 1e-6;
const leastLoss = 1e-5;

/**
 * The quality of a level by that of others, measured before on other frames: which of them it is between, by what its frames
 * lose. A dozen frames say which of two levels is better, and little of how often a level is right; so what is measured later
 * must be put on the scale of what is there, or a planner would prefer the one or the other for the frames it was measured on.
 *
 * An answer changes when its margin is less than the change of the scores, which a divergence is the square of. So levels
 * are compared by the mean root of their frames' divergences, to which the share of changed answers is about
 * proportional: between anchors it is interpolated as a power of that, beyond the finest it shrinks with it.
 *
 * @returns undefined if there are too few anchors; else the quality of a level's frames, 0…1, never rising with what they
 * lose. `fitted` is what is thought of the level by its own frames alone: beyond the roughest anchor it can only be worse.
 */
export function anchorQuality(
  anchors: readonly Anchor[],
): ((frames: readonly Fidelity[], fitted: number) => number) | undefined {
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
  return (frames, fitted) => {
    const position = positionOf(frames);
    const next = blocks.findIndex((block) => block.position >= position);
    if (next < 0) return Math.min(blocks.at(-1)!.quality, fitted);
    const after = blocks[next]!;
    const before = blocks[next - 1];
    if (before === undefined) return 1 - (1 - after.quality) * Math.exp(position - after.position);
    const share = (position - before.position) / (after.position - before.position);
    const [from, to] = [logLoss(before), logLoss(after)];
    // Rounding must not lead out of what lies between.
    const quality = 1 - Math.exp(from + share * (to - from));
    return Math.min(before.quality, Math.max(after.quality, quality));
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

const logLoss = ({ quality }: Block): number => Math.log(1 - quality + leastLoss);

/** The logarithm of the mean root. */
function positionOf(frames: readonly Fidelity[]): number {
  const sum = frames.reduce((total, { divergence }) => total + Math.sqrt(divergence), 0);
  return Math.log(sum / frames.length + leastChange);
}
