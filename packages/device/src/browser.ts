import { createWebRuntime } from '@isthmus/runtime/web';
import { createPageCache } from './cache-page.js';
import { connectOn } from './connect.js';
import type { PlainFrame } from './frame.js';
import type { ConnectOptions } from './options.js';
import { createBrowserCoder } from './picture-coder-browser.js';
import { type BrowserPicture, createPictureReader } from './pictures-browser.js';
import type { Session } from './session.js';
import type { WebSocketLike } from './socket.js';

export { type ErrorCode, IsthmusError, isIsthmusError } from '@isthmus/core';
export type {
  Decision,
  EnergyModel,
  EnergyPreset,
  LinkEstimate,
  LinkPhase,
  LocalPlan,
  Objective,
  Plan,
  PricedPlan,
  SkipPlan,
  SplitPlan,
  UtilityWeights,
} from '@isthmus/planner';
export { createMemoryCache, type SegmentCache } from './cache.js';
export { createPageCache } from './cache-page.js';
export type { LinkState, LinkStateEvent } from './connection.js';
export type { PixelFrame, PlainFrame } from './frame.js';
export type { ConnectOptions } from './options.js';
export type { BrowserPicture } from './pictures-browser.js';
export {
  type BackoffOptions,
  exponentialBackoff,
  type ReconnectContext,
  type ReconnectPolicy,
} from './reconnect.js';
export type { FrameResult, Timing, Traffic } from './result.js';
export type { SegmentEvent } from './segments.js';
export type { DecisionEvent, RunOptions, Session, SessionEvents } from './session.js';
export type { OpenWebSocket, WebSocketLike } from './socket.js';
export type { Target } from './target.js';

/** What can be run in a browser: also whatever a canvas can draw, at its native size, and picture files as blobs. */
export type Frame = PlainFrame | BrowserPicture;

/**
 * Connects to a receiver. Segments are downloaded when a plan first needs them. Works in pages and workers.
 *
 * @param url Where the receiver is attached: `wss://…` or `https://…`.
 * @throws IsthmusError `usage/invalid`, `link/connect-failed`, `auth/denied`, `bundle/no-such-model`,
 * `bundle/invalid`, `wire/version-mismatch`, `bundle/no-such-cut` and the like for a plan that cannot be,
 * `runtime/unavailable` on a page without https, `request/cancelled`
 *
 * @example
 * ```ts
 * import { connect } from '@isthmus/device';
 *
 * const session = await connect('wss://edge.example.com', { model: 'mobilenet-v1', target: { deadlineMs: 100 } });
 * const { output, plan, timing } = await session.run(document.querySelector('video'));
 * await session.close();
 * ```
 */
export function connect(url: string, options: ConnectOptions): Promise<Session<Frame>> {
  return connectOn(
    {
      name: 'browser',
      createRuntime: () => createWebRuntime(),
      createCache: () => createPageCache(),
      openWebSocket: (socketUrl) => new WebSocket(socketUrl) as WebSocketLike,
      createPictureEncoder: () => createBrowserCoder(),
      readFrame: createPictureReader(),
    },
    url,
    options,
  );
}
