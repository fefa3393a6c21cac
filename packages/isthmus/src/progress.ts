import { type Clock, systemClock } from '@isthmus/core';
import type { CliContext } from './cli.js';
import { formatBytes } from './table.js';

/** Tells on the error stream how far something is, not more than a few times a second. */
export interface Progress {
  show(what: string, done?: number, total?: number | undefined): void;
  end(): void;
}

const intervalMs = 500;

export function createProgress(context: Pick<CliContext, 'note'>, clock: Clock = systemClock): Progress {
  let shownAtMs = Number.NEGATIVE_INFINITY;
  let lastWhat = '';
  let shown: string | undefined;
  let pending: string | undefined;
  const flush = (): void => {
    if (pending !== undefined && pending !== shown) context.note(pending);
    shown = pending ?? shown;
    pending = undefined;
    shownAtMs = clock.now();
  };
  return {
    show(what, done, total) {
      const isNew = what !== lastWhat;
      if (isNew) flush();
      lastWhat = what;
      pending = done ? `${what} ${describe(done, total)}` : what;
      if (isNew || clock.now() - shownAtMs >= intervalMs) flush();
    },
    end: flush,
  };
}

function describe(done: number, total: number | undefined): string {
  if (total === undefined || total === 0) return formatBytes(done);
  return `${formatBytes(done)} of ${formatBytes(total)}, ${Math.floor((100 * done) / total)} %`;
}
