import { createServer, type Server, Socket } from 'node:net';
import { type Clock, IsthmusError, systemClock } from '@isthmus/core';

/** One direction of a shaped link. */
export interface LinkShape {
  /** Bits per second; Infinity for no limit. */
  rateBps: number;
  /** One-way delay. */
  delayMs: number;
}

export interface ShaperOptions {
  /** Where the connections go on to. */
  target: { host: string; port: number };
  uplink: LinkShape;
  /** @default unlimited, with the uplink's delay */
  downlink?: LinkShape;
  /** Bytes a direction holds before it stops reading, as a modem's queue does. @default 65536 */
  queueBytes?: number;
  clock?: Clock;
}

/** A TCP proxy that behaves like a slow, distant link. */
export interface Shaper {
  readonly port: number;
  /** Changes the uplink at once, for all connections. */
  setUplink(shape: LinkShape): void;
  setDownlink(shape: LinkShape): void;
  /** Ends every connection and refuses new ones until {@link Shaper.restore}. */
  cut(): void;
  restore(): void;
  /** Bytes carried so far. */
  readonly numBytes: { up: number; down: number };
  close(): Promise<void>;
}

// Bytes leave a queue in pieces about the size of a network packet, so that a rate is smooth, not bursty.
const pieceBytes = 1448;

/**
 * Starts a proxy on a free loopback port. Each direction is one token bucket that all connections share: a piece
 * leaves when the link has sent what came before it, and arrives `delayMs` later.
 *
 * @throws IsthmusError `receiver/listen-failed`
 *
 * @example
 * ```ts
 * const shaper = await createShaper({
 *   target: { host: '127.0.0.1', port: 8787 },
 *   uplink: { rateBps: 2e6, delayMs: 20 },
 * });
 * const session = await connect(`ws://127.0.0.1:${shaper.port}`, { model: 'mobilenet-v1' });
 * ```
 */
export async function createShaper(options: ShaperOptions): Promise<Shaper> {
  const { target, queueBytes = 65_536, clock = systemClock } = options;
  const up = new Direction(options.uplink, queueBytes, clock);
  const down = new Direction(
    options.downlink ?? { rateBps: Infinity, delayMs: options.uplink.delayMs },
    queueBytes,
    clock,
  );
  const sockets = new Set<Socket>();
  let isCut = false;

  const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    if (isCut) {
      client.destroy();
      return;
    }
    const upstream = new Socket({ allowHalfOpen: true });
    upstream.setNoDelay(true);
    upstream.connect(target.port, target.host);
    for (const [from, to, direction] of [
      [client, upstream, up],
      [upstream, client, down],
    ] as const) {
      sockets.add(from);
      direction.carry(from, to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        // What is still in the queue of this direction is delivered before the other side closes.
        if (from.errored || isCut) to.destroy();
      });
    }
  });
  await listen(server);
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;

  return {
    port,
    setUplink: (shape) => up.setShape(shape),
    setDownlink: (shape) => down.setShape(shape),
    cut() {
      isCut = true;
      for (const socket of sockets) socket.destroy();
    },
    restore() {
      isCut = false;
    },
    get numBytes() {
      return { up: up.numBytes, down: down.numBytes };
    },
    async close() {
      isCut = true;
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}

class Direction {
  numBytes = 0;
  #shape: LinkShape;
  readonly #queueBytes: number;
  readonly #clock: Clock;
  #freeAtMs = 0;

  constructor(shape: LinkShape, queueBytes: number, clock: Clock) {
    this.#shape = shape;
    this.#queueBytes = queueBytes;
    this.#clock = clock;
  }

  setShape(shape: LinkShape): void {
    this.#shape = shape;
    // What the old rate had still to send is not owed to the new one.
    this.#freeAtMs = Math.min(this.#freeAtMs, this.#clock.now());
  }

  carry(from: Socket, to: Socket): void {
    let queuedBytes = 0;
    from.on('data', (data) => {
      for (let offset = 0; offset < data.length; offset += pieceBytes) {
        const piece = data.subarray(offset, offset + pieceBytes);
        queuedBytes += piece.length;
        this.#deliver(piece.length, () => {
          queuedBytes -= piece.length;
          if (to.writable) to.write(piece);
          if (from.isPaused() && queuedBytes < this.#queueBytes && !to.writableNeedDrain) from.resume();
        });
      }
      if (queuedBytes >= this.#queueBytes || to.writableNeedDrain) from.pause();
    });
    to.on('drain', () => {
      if (queuedBytes < this.#queueBytes) from.resume();
    });
    from.on('end', () => this.#deliver(0, () => to.end()));
  }

  #deliver(numBytes: number, arrive: () => void): void {
    const { rateBps, delayMs } = this.#shape;
    const now = this.#clock.now();
    this.#freeAtMs = Math.max(now, this.#freeAtMs) + (numBytes * 8000) / rateBps;
    this.numBytes += numBytes;
    this.#clock.after(this.#freeAtMs + delayMs - now, arrive);
  }
}

async function listen(server: Server): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  }).catch((cause) => {
    throw new IsthmusError('receiver/listen-failed', 'The shaping proxy could not open a loopback port.', {
      cause,
    });
  });
}
