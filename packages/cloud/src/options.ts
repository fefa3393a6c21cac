import { type Clock, type CodecKind, IsthmusError, type Runtime } from '@isthmus/core';
import type { Logger } from 'pino';
import type { Auth } from './auth.js';
import type { BundleSource } from './bundle-store.js';

/** What clients may use. Each has a default that fits one machine serving models of a few hundred megabytes. */
export interface ReceiverLimits {
  /** Largest request packet, header included. @default 33_554_432 */
  packetBytes: number;
  /** Requests of one connection that are being received, waiting, running or being answered. @default 32 */
  inFlightPerConnection: number;
  /** @default 1000 */
  connections: number;
  /** 0 for no limit; leave it so behind a proxy, where all clients share an address. @default 0 */
  connectionsPerAddress: number;
  /** What a connection may send; faster clients are read slower. 0 for no limit. @default 0 */
  bytesPerSecond: number;
  /** Whole requests waiting for their turn, over all connections. @default 256 */
  queueLength: number;
  /** Bytes of all requests being received or waiting and all results being sent. @default 268_435_456 */
  pendingBytes: number;
  /** @default 10_000 */
  helloTimeoutMs: number;
  /** Silence after which a peer is taken for dead, and a packet for abandoned. @default 30_000 */
  idleTimeoutMs: number;
  /** How long a session and its results are kept for a client that lost its link. @default 30_000 */
  resumeMs: number;
  /** Most sessions kept without a connection. @default 1000 */
  keptSessions: number;
  /** Most results kept for one session. @default 64 */
  keptResults: number;
  /** Bytes of all results kept. @default 67_108_864 */
  keptResultBytes: number;
}

export interface ReceiverOptions {
  /** Folders that `isthmus split` wrote, or other places with the same files. */
  bundles: readonly (string | BundleSource)[];
  /** @default `createNodeRuntime()` of `@isthmus/runtime/node`, closed with the receiver */
  runtime?: Runtime;
  /** The tokens that open the door, or a function that says. @default everybody may come in */
  auth?: Auth;
  /**
   * Origins of web pages that may connect, as in `https://shop.example.com`; `'*'` for all. What is not a browser
   * sends no origin and is not concerned. @default pages of the receiver's own host and port
   */
  allowedOrigins?: readonly string[] | '*';
  limits?: Partial<ReceiverLimits>;
  /** @default builtinCodecs, and those of pictures if the package sharp is installed */
  codecs?: readonly CodecKind[];
  /** @default systemClock */
  clock?: Clock;
  /** @default nothing is logged */
  logger?: Logger;
  /**
   * Memory for loaded spans and decoders, estimated from their files; what was used longest ago is dropped.
   * @default 2 GiB
   */
  maxSpanBytes?: number;
  /**
   * Requests being decoded or run at once. The default runtime runs one at a time: with 2, the next is decoded
   * meanwhile. @default 2
   */
  concurrency?: number;
  /** Whether `GET metrics` answers, in the format of Prometheus. @default false */
  metrics?: boolean;
}

const defaultLimits: ReceiverLimits = {
  packetBytes: 33_554_432,
  inFlightPerConnection: 32,
  connections: 1000,
  connectionsPerAddress: 0,
  bytesPerSecond: 0,
  queueLength: 256,
  pendingBytes: 268_435_456,
  helloTimeoutMs: 10_000,
  idleTimeoutMs: 30_000,
  resumeMs: 30_000,
  keptSessions: 1000,
  keptResults: 64,
  keptResultBytes: 67_108_864,
};

const mayBeZero: ReadonlySet<string> = new Set([
  'connectionsPerAddress',
  'bytesPerSecond',
  'queueLength',
  'resumeMs',
  'keptSessions',
  'keptResults',
  'keptResultBytes',
]);

/** All limits, checked. @throws IsthmusError `usage/invalid` */
export function resolveLimits(given: Partial<ReceiverLimits> = {}): ReceiverLimits {
  const chosen = Object.entries(given).filter(([, value]) => value !== undefined);
  for (const [name, value] of chosen) {
    if (!Object.hasOwn(defaultLimits, name)) {
      throw new IsthmusError(
        'usage/invalid',
        `There is no limit called ${name}; there are ${Object.keys(defaultLimits).join(', ')}.`,
      );
    }
    if (!Number.isSafeInteger(value) || value < (mayBeZero.has(name) ? 0 : 1)) {
      throw new IsthmusError(
        'usage/invalid',
        `limits.${name} must be a whole number of at least ${mayBeZero.has(name) ? 0 : 1}, not ${value}.`,
      );
    }
  }
  return { ...defaultLimits, ...Object.fromEntries(chosen) };
}
