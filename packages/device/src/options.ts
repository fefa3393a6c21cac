import {
  builtinEncoders,
  type Clock,
  createPictureEncoders,
  type EncoderKind,
  IsthmusError,
  type Runtime,
  systemClock,
} from '@isthmus/core';
import type { Plan } from '@isthmus/planner';
import type { SegmentCache } from './cache.js';
import type { Platform } from './platform.js';
import { exponentialBackoff, type ReconnectPolicy } from './reconnect.js';
import type { OpenWebSocket } from './socket.js';
import { type ResolvedTarget, resolveTarget, type Target } from './target.js';

export interface ConnectOptions {
  /** The model's name at the receiver. */
  model: string;
  /** @default none */
  token?: string;
  /** The plan of every frame, or `auto` to choose by link, profile and target. @default 'auto' */
  plan?: Plan | 'auto';
  /** What `auto` chooses for. @default the soonest answers, without much loss */
  target?: Target;
  /**
   * Frames that may wait until the device can begin with them; when one more comes, the one that has waited longest
   * fails with `request/dropped`: for a camera, the newest frame is the best. Frames that are run with a plan of their
   * own do not count, unless this is given.
   * @default 1 where the plan is `auto` and the target has a deadline, else unlimited
   */
  maxQueuedFrames?: number;
  /** Memory for the device's segments and encoders, estimated from files and activations. @default 536_870_912 */
  maxDeviceBytes?: number;
  /**
   * Whether the device may answer alone: when `auto` finds that best, and when the link is gone.
   * @default if the whole model fits `maxDeviceBytes`
   */
  mayRunLocally?: boolean;
  /** Runs the segments. @default onnxruntime-node in a worker thread, or onnxruntime-web; closed with the session */
  runtime?: Runtime;
  /** Keeps segments between sessions. @default the user's cache folder, or the page's Cache API */
  cache?: SegmentCache;
  /** When to try again after the link was lost. @default exponentialBackoff() */
  reconnect?: ReconnectPolicy;
  /** How long requests wait for a lost link before they fail with `link/lost`. @default 30_000 */
  linkTimeoutMs?: number;
  /** For connecting and being accepted; also how long a download may stand still. @default 10_000 */
  connectTimeoutMs?: number;
  /** @default 5_000 */
  pingIntervalMs?: number;
  /** Silence after which the link is taken for dead. @default 15_000 */
  pingTimeoutMs?: number;
  /** Larger results are refused before they are received. @default 67_108_864 */
  maxResultBytes?: number;
  /** Ends connecting, not the session. @default none */
  signal?: AbortSignal;
  /** @default builtinEncoders, and those of pictures with the platform's picture encoders */
  codecs?: readonly EncoderKind[];
  /** @default the platform's own, or the `ws` package in Node */
  webSocket?: OpenWebSocket;
  /** @default globalThis.fetch */
  fetch?: typeof globalThis.fetch;
  /** @default systemClock */
  clock?: Clock;
  /** In [0, 1), for the jitter of waiting times. @default Math.random */
  random?: () => number;
}

type Optional = 'mayRunLocally' | 'signal' | 'maxQueuedFrames';
export type ResolvedOptions = Required<Omit<ConnectOptions, Optional | 'token' | 'runtime' | 'target'>> &
  Pick<ConnectOptions, Optional> & {
    token: string | null;
    runtime: Runtime;
    ownsRuntime: boolean;
    target: ResolvedTarget;
  };

/** @throws IsthmusError `usage/invalid` */
export function resolveOptions(options: ConnectOptions, platform: Platform): ResolvedOptions {
  if (typeof options.model !== 'string' || options.model === '') {
    throw new IsthmusError('usage/invalid', 'connect() needs the name of a model: { model: … }.');
  }
  const positive = [
    'maxDeviceBytes',
    'linkTimeoutMs',
    'connectTimeoutMs',
    'pingIntervalMs',
    'pingTimeoutMs',
    'maxResultBytes',
    'maxQueuedFrames',
  ] as const;
  for (const name of positive) {
    const value = options[name];
    if (value !== undefined && !(value >= 0)) {
      throw new IsthmusError('usage/invalid', `${name} must be a number of at least 0, not ${value}.`);
    }
  }
  const target = resolveTarget(options.target ?? {});
  return {
    plan: 'auto',
    maxDeviceBytes: 536_870_912,
    reconnect: exponentialBackoff(),
    linkTimeoutMs: 30_000,
    connectTimeoutMs: 10_000,
    pingIntervalMs: 5_000,
    pingTimeoutMs: 15_000,
    maxResultBytes: 67_108_864,
    codecs: [...builtinEncoders, ...createPictureEncoders(platform.createPictureEncoder())],
    webSocket: platform.openWebSocket,
    // Browsers insist that fetch is called on the page.
    fetch: (input, init) => globalThis.fetch(input, init),
    clock: systemClock,
    random: Math.random,
    // An option that is there but undefined is as good as absent.
    ...(Object.fromEntries(
      Object.entries(options).filter(([, value]) => value !== undefined),
    ) as unknown as ConnectOptions),
    target,
    token: options.token ?? null,
    cache: options.cache ?? platform.createCache(),
    runtime: options.runtime ?? platform.createRuntime(),
    ownsRuntime: options.runtime === undefined,
  };
}
