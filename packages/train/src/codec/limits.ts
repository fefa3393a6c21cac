import type { Draft } from '../draft.js';

/** Where values end hard, as those of Relu and Relu6 do; undefined where they do not. */
export interface HardLimits {
  readonly low: number | undefined;
  readonly high: number | undefined;
}

/** What is decoded, within the limits of what there can be. */
export function clipped(draft: Draft, x: string, { low, high }: HardLimits): string {
  if (low === undefined) return x;
  const bounds = [x, draft.scalar(low)];
  return draft.node('Clip', high === undefined ? bounds : [...bounds, draft.scalar(high)]);
}
