import type { Clock } from '@isthmus/core';
import type { LinkEstimate } from './link.js';

/** When to send more than is known to go through. */
export interface Exploration {
  isDue(estimate: LinkEstimate): boolean;
  begin(estimate: LinkEstimate): void;
}

// Faster by so much, and it was worth it.
const success = 1.3;

/**
 * Small packets over a fast link only show what it can do at least, and whoever believes that goes on sending small
 * ones. So now and then a frame is sent as if the link were faster. It may be late: hence seldom, and, while nothing
 * is found, twice as seldom each time.
 */
export function createExploration(
  clock: Clock,
  { exploreMs, maxExploreMs }: { exploreMs: number; maxExploreMs: number },
): Exploration {
  let waitMs = exploreMs;
  let begunMs = clock.now();
  let before: number | undefined;
  return {
    isDue({ phase, isLimited, bytesPerSecond }) {
      if (phase !== 'steady' || !isLimited || bytesPerSecond === null) return false;
      if (before !== undefined && clock.now() > begunMs) {
        waitMs = bytesPerSecond > success * before ? exploreMs : Math.min(maxExploreMs, 2 * waitMs);
        before = undefined;
      }
      return clock.now() - begunMs >= waitMs;
    },
    begin({ bytesPerSecond }) {
      begunMs = clock.now();
      before = bytesPerSecond ?? undefined;
    },
  };
}
