import { IsthmusError } from '@isthmus/core';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { createSharpCoder, decodePicture } from '@isthmus/runtime/pictures';
import { createFolderCache } from './cache-folder.js';
import { connectOn } from './connect.js';
import type { PlainFrame } from './frame.js';
import type { ConnectOptions } from './options.js';
import type { Platform } from './platform.js';
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
export { createFolderCache } from './cache-folder.js';
export type { LinkState, LinkStateEvent } from './connection.js';
export type { PixelFrame, PlainFrame } from './frame.js';
export { listModels, type ServedModel } from './models.js';
export type { ConnectOptions } from './options.js';
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

/** What can be run in Node: also the bytes of a JPEG, PNG or WebP file, decoded by the package `sharp`. */
export type Frame = PlainFrame | Uint8Array;

const platform: Platform = {
  name: 'node',
  createRuntime: () => createNodeRuntime(),
  createCache: () => createFolderCache(),
  openWebSocket,
  createPictureEncoder: () => createSharpCoder(),
  readFrame: async (frame) => (frame instanceof Uint8Array ? decodePicture(frame) : undefined),
};

/**
 * Connects to a receiver. Segments are downloaded when a plan first needs them.
 *
 * @param url Where the receiver is attached: `wss://…`, `ws://…`, `https://…` or `http://…`.
 * @throws IsthmusError `usage/invalid`, `link/connect-failed`, `auth/denied`, `bundle/no-such-model`,
 * `bundle/invalid`, `wire/version-mismatch`, `bundle/no-such-cut` and the like for a plan that cannot be,
 * `request/cancelled`
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises';
 * import { connect } from '@isthmus/device';
 *
 * const session = await connect('ws://localhost:8787', { model: 'mobilenet-v1', target: { deadlineMs: 100 } });
 * const { output, plan, timing } = await session.run(await readFile('photo.jpg'));
 * await session.close();
 * ```
 */
export function connect(url: string, options: ConnectOptions): Promise<Session<Frame>> {
  return connectOn(platform, url, options);
}

// Node 20 has no WebSocket of its own.
async function openWebSocket(url: string): Promise<WebSocketLike> {
  try {
    const { WebSocket } = await import('ws');
    const options = { perMessageDeflate: false, ...(hasNoProxy(url) && { generateMask: leaveUnmasked }) };
    return new WebSocket(url, options) as unknown as WebSocketLike;
  } catch (cause) {
    throw new IsthmusError(
      'link/connect-failed',
      'The package ws could not be loaded. Install it (npm install ws), or pass options.webSocket.',
      { cause },
    );
  }
}

// Masking keeps what a client sends from looking like HTTP to a proxy in between (RFC 6455, 10.3). Inside TLS, and on
// one machine, there is none that could look; a mask of zeros then saves half of the time that sending takes.
function hasNoProxy(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'wss:' || ['localhost', '127.0.0.1', '[::1]'].includes(hostname);
}

function leaveUnmasked(mask: Buffer): void {
  mask.fill(0);
}
