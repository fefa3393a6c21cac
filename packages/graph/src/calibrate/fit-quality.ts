import type { Fidelity } from './fidelity.js';

/** Blocks of fewer frames than this say more about the frames than about the model. */
const minBlock = 25;
const tiny = 1e-9;

/**
 * How likely a frame is answered alike, given how far its outputs have moved. Counting agreements is noisy: a level that
 * fifteen of sixteen frames survive may be better than one that all survive. The divergence of a frame is not; and what a
 * divergence means for the answer depends on the model, hardly on the codec. So agreement is fitted as a falling function
 * of divergence over the frames of all levels together (isotonic regression by pooling adjacent violators, Ayer et al.
 * 1955), and read off between the blocks' centres.
 *
 * @returns Expected agreement, 0…1, for a frame's divergence.
 */
export function fitQuality(frames: readonly Fidelity[]): (divergence: number) => number {
  const sorted = [...frames].sort((a, b) => a.divergence - b.divergence);
  const blocks: Block[] = [];
  for (let start = 0; start < sorted.length; start += minBlock) {
    const part = sorted.slice(start, start + minBlock);
    let block: Block = { count: part.length, position: 0, agreement: 0 };
    for (const { divergence, agreement } of part) {
      block.position += Math.log(divergence + tiny) / part.length;
      block.agreement += agreement / part.length;
    }
    for (let before = blocks.at(-1); before !== undefined && before.agreement < block.agreement; ) {
      block = merge(before, block);
      blocks.pop();
      before = blocks.at(-1);
    }
    blocks.push(block);
  }
  return (divergence) => interpolate(blocks, divergence);
}

interface Block {
  count: number;
  /** Mean logarithm of the divergence. */
  position: number;
  agreement: number;
}

function merge(a: Block, b: Block): Block {
  const count = a.count + b.count;
  const mean = (of: (block: Block) => number): number => (a.count * of(a) + b.count * of(b)) / count;
  return { count, position: mean(({ position }) => position), agreement: mean(({ agreement }) => agreement) };
}

function interpolate(blocks: readonly Block[], divergence: number): number {
  const position = Math.log(divergence + tiny);
  // What has not moved at all is answered alike.
  const origin: Block = { count: 0, position: Math.log(tiny), agreement: 1 };
  const next = blocks.findIndex((block) => block.position >= position);
  if (next < 0) return blocks.at(-1)?.agreement ?? 1;
  const after = blocks[next] ?? origin;
  const before = blocks[next - 1] ?? origin;
  const span = after.position - before.position;
  const share = span > 0 ? (position - before.position) / span : 1;
  return before.agreement + share * (after.agreement - before.agreement);
}
