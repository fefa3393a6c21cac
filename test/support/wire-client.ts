import {
  type AcceptMessage,
  builtinCodecs,
  ChunkScheduler,
  type ControlMessage,
  decodeChunk,
  decodeControl,
  decodeResultHeader,
  decodeResultPacket,
  encodeControl,
  encodeRequestPacket,
  type HelloMessage,
  type Manifest,
  messageKind,
  type NamedTensors,
  PacketAssembler,
  resultHeaderBytes,
  systemClock,
} from '@isthmus/core';
import { type ClientOptions, WebSocket } from 'ws';
import type { Fixture } from './fixture.js';

/** What came over the socket, in order. */
export type Event =
  | ControlMessage
  | { type: 'result'; id: number; packet: Uint8Array }
  | { type: 'closed'; closeCode: number; reason: string };

export interface WireClient {
  readonly socket: WebSocket;
  /** Everything that came so far. */
  readonly events: readonly Event[];
  send(message: ControlMessage): void;
  sendBytes(bytes: Uint8Array | string): void;
  /** The first event, past or to come, that fits. Rejects if the socket closes before. */
  wait<T extends Event['type']>(
    type: T,
    fits?: (event: Extract<Event, { type: T }>) => boolean,
  ): Promise<Extract<Event, { type: T }>>;
  hello(fields?: Partial<HelloMessage>): Promise<AcceptMessage>;
  close(): Promise<void>;
}

export const helloFields: HelloMessage = {
  type: 'hello',
  protocol: [1],
  model: 'two-heads',
  codecs: ['raw', 'quantized'],
  token: null,
  resume: null,
  bundle: null,
  tables: {},
  client: 'test',
};

/** Speaks the wire protocol as the test tells it to, also wrongly. */
export async function connectWire(url: string, options: ClientOptions = {}): Promise<WireClient> {
  const socket = new WebSocket(url, { perMessageDeflate: false, ...options });
  const events: Event[] = [];
  const listeners = new Set<(event: Event) => boolean>();
  const assembler = new PacketAssembler({
    clock: systemClock,
    maxOpen: 1000,
    admit: (_id, first) => resultHeaderBytes + decodeResultHeader(first).payloadBytes,
  });
  const push = (event: Event): void => {
    events.push(event);
    for (const listener of listeners) if (listener(event)) listeners.delete(listener);
  };
  socket.on('message', (data: Buffer) => {
    if (data[0] !== messageKind.resultChunk) return push(decodeControl(data));
    const event = assembler.take(decodeChunk(data));
    if (event?.type === 'refused') throw event.error;
    if (event !== undefined) push({ type: 'result', id: event.packet.id, packet: event.packet.packet });
  });
  socket.on('error', () => {});
  socket.on('close', (closeCode, reason) => push({ type: 'closed', closeCode, reason: reason.toString() }));
  await new Promise<void>((resolve, reject) => {
    socket.once('open', resolve);
    socket.once('error', reject);
  });

  const client: WireClient = {
    socket,
    events,
    send: (message) => socket.send(encodeControl(message)),
    sendBytes: (bytes) => socket.send(bytes),
    wait(type, fits = () => true) {
      return new Promise((resolve, reject) => {
        // Whether the event ends the waiting.
        const look = (event: Event): boolean => {
          if (event.type === type && fits(event as Extract<Event, { type: typeof type }>)) {
            resolve(event as Extract<Event, { type: typeof type }>);
          } else if (event.type === 'closed') {
            reject(new Error(`closed before ${type}: ${JSON.stringify(events.slice(-2))}`));
          } else return false;
          return true;
        };
        if (!events.some(look)) listeners.add(look);
      });
    },
    hello(fields = {}) {
      client.send({ ...helloFields, ...fields });
      return client.wait('accept');
    },
    async close() {
      socket.close();
      await client.wait('closed');
    },
  };
  return client;
}

/** A request packet: the tensors of a cut, coded. */
export async function encodeRequest(
  fixture: Fixture,
  cut: number,
  options: { codec?: string; level?: number; deadlineMs?: number } = {},
): Promise<Uint8Array> {
  const { codec = 'raw', level = 0, deadlineMs = 0 } = options;
  const { manifest, runtime } = fixture;
  const index = manifest.codecs.findIndex((entry) => entry.id === codec);
  const entry = manifest.codecs[index]!;
  const kind = builtinCodecs.find((candidate) => candidate.kind === entry.kind)!;
  const readFile = async (): Promise<Uint8Array> => new Uint8Array();
  const encoder = await kind.createEncoder({ manifest, entry, readFile, runtime });
  const path = { from: cut, to: cut, level };
  const payload = await encoder.encode(await fixture.tensorsAt(cut), path);
  return encodeRequestPacket({ ...path, codec: index, deadlineMs }, payload);
}

/** A packet's chunks, as messages. */
export function chunksOf(id: number, packet: Uint8Array): Uint8Array[] {
  const scheduler = new ChunkScheduler();
  scheduler.add(messageKind.requestChunk, id, packet);
  const messages: Uint8Array[] = [];
  for (let next = scheduler.next(); next !== undefined; next = scheduler.next()) messages.push(next.message);
  return messages;
}

/** Sends a packet and waits for its result. */
export async function request(
  client: WireClient,
  id: number,
  packet: Uint8Array,
  manifest: Manifest,
): Promise<NamedTensors> {
  for (const chunk of chunksOf(id, packet)) client.sendBytes(chunk);
  const result = await client.wait('result', (event) => event.id === id);
  return decodeResultPacket(result.packet, manifest);
}
