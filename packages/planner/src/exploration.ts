import type { Clock } from '@isthmus/core';

/** When to use a link that seems of no use, to see whether it still is. */
export interface Exploration {
  isDue(): boolean;
  /** A frame is sent to see. */
  begin(): void;
  /** A frame is sent because that is best. */
  used(): void;
}

/**
 * What is known of a link that nothing is sent over never gets better. So now and then a frame goes over it although
 * another plan promises more; seldom, and, while nothing comes of it, twice as seldom each time.
 */
export function createExploration(
  clock: Clock,
  { exploreMs, maxExploreMs }: { exploreMs: number; maxExploreMs: number },
): Exploration {
  let waitMs = exploreMs;
  let usedMs = clock.now();
  return {
    isDue: () => clock.now() - usedMs >= waitMs,
    begin() {
      usedMs = clock.now();
      waitMs = Math.min(maxExploreMs, 2 * waitMs);
    },
    used() {
      usedMs = clock.now();
      waitMs = exploreMs;
    },
  };
}
