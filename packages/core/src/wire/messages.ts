import * as v from 'valibot';
import { IsthmusError } from '../errors.js';
import {
  integer,
  integerFrom,
  listOf,
  measure,
  parseAs,
  type Schema,
  textLike,
  textUpTo,
} from '../schema.js';
import { maxControlBytes, messageKind } from './constants.js';
import { decodeMsgpack, encodeMsgpack, type MsgpackValue } from './msgpack.js';

/** Device → receiver, the first message: who speaks, and what for. */
export interface HelloMessage {
  type: 'hello';
  /** Protocol versions the device speaks. */
  protocol: number[];
  model: string;
  /** Codec kinds the device knows. */
  codecs: string[];
  token: string | null;
  /** Session to take up again after a lost link, as the last accept named it. */
  resume: string | null;
  /** SHA-256 of the manifest the device holds, null if none yet. */
  bundle: string | null;
  /** Table hashes of the codecs the device holds, by codec id. */
  tables: Record<string, string>;
  /** For logs. */
  client: string;
}

/** What a receiver allows one connection. */
export interface ConnectionLimits {
  packetBytes: number;
  inFlight: number;
  /** 0 for no limit. */
  bytesPerSecond: number;
}

/** Receiver → device: the hello is good. */
export interface AcceptMessage {
  type: 'accept';
  protocol: number;
  session: string;
  /** Whether `resume` named a session the receiver still knows. */
  resumed: boolean;
  model: string;
  bundle: string;
  tables: Record<string, string>;
  /** Ids of the codecs that both ends can use. */
  codecs: string[];
  limits: ConnectionLimits;
}

/** Receiver → device: a request packet has come in whole. Times are on the receiver's clock. */
export interface ArrivedMessage {
  type: 'arrived';
  id: number;
  numBytes: number;
  firstMs: number;
  lastMs: number;
}

/** Receiver → device, just before the result or error: where the time went. */
export interface ReceiptMessage {
  type: 'receipt';
  id: number;
  numBytes: number;
  firstMs: number;
  lastMs: number;
  /** Milliseconds waiting: for a turn, for the span to load, for the runtime. With the others, all of the time. */
  queueMs: number;
  decodeMs: number;
  runMs: number;
}

/** Either direction: a request (`id`) or the whole connection (`id` null) has failed. */
export interface ErrorMessage {
  type: 'error';
  id: number | null;
  code: string;
  message: string;
  retryable: boolean;
  /** When to try again, if the receiver has an idea. */
  retryAfterMs: number | null;
}

/** Device → receiver: the answer is not wanted any more. */
export interface CancelMessage {
  type: 'cancel';
  id: number;
}

export interface PingMessage {
  type: 'ping';
  id: number;
}

export interface PongMessage {
  type: 'pong';
  id: number;
  /** The sender's clock. */
  atMs: number;
}

/** Either direction: no new requests; the connection closes when those under way are answered. */
export interface GoodbyeMessage {
  type: 'goodbye';
  code: string;
  message: string;
}

export type ControlMessage =
  | HelloMessage
  | AcceptMessage
  | ArrivedMessage
  | ReceiptMessage
  | ErrorMessage
  | CancelMessage
  | PingMessage
  | PongMessage
  | GoodbyeMessage;

const id = integerFrom(0, 0xffffffff);
const shortText = textUpTo(200);
const hash = textLike(/^[0-9a-f]{64}$/);
const hashes = v.record(v.pipe(v.string(), v.maxLength(200)), hash);
const timeMs = measure;
const size = integerFrom(0);
const arrival = { id, numBytes: size, firstMs: timeMs, lastMs: timeMs };

const controlSchema: Schema<ControlMessage> = v.variant('type', [
  v.object({
    type: v.literal('hello'),
    protocol: listOf(integer, 1, 16),
    model: shortText,
    codecs: listOf(shortText, 0, 64),
    token: v.nullable(textUpTo(8192)),
    resume: v.nullable(shortText),
    bundle: v.nullable(hash),
    tables: hashes,
    client: shortText,
  }),
  v.object({
    type: v.literal('accept'),
    protocol: integer,
    session: shortText,
    resumed: v.boolean(),
    model: shortText,
    bundle: hash,
    tables: hashes,
    codecs: listOf(shortText, 0, 256),
    limits: v.object({ packetBytes: size, inFlight: size, bytesPerSecond: size }),
  }),
  v.object({ type: v.literal('arrived'), ...arrival }),
  v.object({ type: v.literal('receipt'), ...arrival, queueMs: timeMs, decodeMs: timeMs, runMs: timeMs }),
  v.object({
    type: v.literal('error'),
    id: v.nullable(id),
    code: shortText,
    message: textUpTo(4000),
    retryable: v.boolean(),
    retryAfterMs: v.nullable(timeMs),
  }),
  v.object({ type: v.literal('cancel'), id }),
  v.object({ type: v.literal('ping'), id }),
  v.object({ type: v.literal('pong'), id, atMs: timeMs }),
  v.object({ type: v.literal('goodbye'), code: shortText, message: textUpTo(4000) }),
]);

/** A control message as bytes: the kind, then MessagePack. */
export function encodeControl(message: ControlMessage): Uint8Array {
  const body = encodeMsgpack({ ...message } as { [key: string]: MsgpackValue });
  const bytes = new Uint8Array(1 + body.byteLength);
  bytes[0] = messageKind.control;
  bytes.set(body, 1);
  return bytes;
}

/** @throws IsthmusError `wire/malformed` */
export function decodeControl(bytes: Uint8Array): ControlMessage {
  if (bytes[0] !== messageKind.control || bytes.byteLength > maxControlBytes) {
    throw new IsthmusError(
      'wire/malformed',
      `A message of kind ${bytes[0]} and ${bytes.byteLength} bytes cannot be.`,
    );
  }
  const parsed = parseAs(controlSchema, decodeMsgpack(bytes.subarray(1)));
  if (!parsed.ok) {
    throw new IsthmusError('wire/malformed', `Malformed control message: ${parsed.problem}`, {
      cause: parsed.cause,
    });
  }
  return parsed.value;
}

/** The protocol version both ends speak, the newest. @throws IsthmusError `wire/version-mismatch` */
export function negotiateVersion(theirs: readonly number[], ours: readonly number[]): number {
  const version = ours.find((candidate) => theirs.includes(candidate));
  if (version === undefined) {
    throw new IsthmusError(
      'wire/version-mismatch',
      `No common protocol version: the other end speaks ${theirs.join(', ')}, this one ${ours.join(', ')}. Update the older one.`,
    );
  }
  return version;
}
