import type { Clock, IsthmusError } from '@isthmus/core';
import type { Logger } from 'pino';
import type { Authorize, OriginCheck } from './auth.js';
import type { ByteBudget } from './budget.js';
import type { Metrics } from './metrics.js';
import type { ServedModel } from './model.js';
import type { ReceiverLimits } from './options.js';
import type { RequestScheduler } from './scheduler.js';
import type { SessionStore } from './sessions.js';

/** What the stages of one receiver share. */
export interface ReceiverContext {
  readonly clock: Clock;
  readonly log: Logger;
  readonly limits: ReceiverLimits;
  readonly models: ReadonlyMap<string, ServedModel>;
  readonly authorize: Authorize;
  readonly isOriginAllowed: OriginCheck;
  readonly budget: ByteBudget;
  readonly scheduler: RequestScheduler;
  readonly sessions: SessionStore;
  readonly metrics: Metrics;
  readonly exposeMetrics: boolean;
  readonly isDraining: () => boolean;
}

// Their messages speak of this machine's files and engines, which is for its log and not for clients.
const privateCodes = /^(internal|runtime\/.*|bundle\/(not-found|hash-mismatch|invalid))$/;
const maxMessageLength = 2000;

/** What a client may read of an error. */
export function publicMessage(error: IsthmusError): string {
  if (privateCodes.test(error.code)) {
    return `The receiver could not do this (${error.code}); its log says why.`;
  }
  return error.message.slice(0, maxMessageLength);
}
