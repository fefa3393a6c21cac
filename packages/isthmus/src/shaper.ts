import { createServer, type Server, Socket } from 'node:net';
import { type Clock, IsthmusError, systemClock } from '@isthmus/core';

/** One direction of a shaped link. */
export interface LinkShape {
  /** Bits per second; Infinity for no limit. */
  rateBps: number;
  /** One-way delay. */
  delayMs: number;
}

/** One direction whose rate changes by itself, as that of a trace. */
export interface LinkSchedule {
  /** When the link has carried so many bytes that are first in line at `startMs`, on the shaper's clock. */
  finishMs(startMs: number, numBytes: number): number;
  /** One-way delay. */
  delayMs: number;
}

export interface ShaperOptions {
  /** Where the connections go on to. */
  target: { host: string; port: number };
  uplink: LinkShape;
  /** @default unlimited, with the uplink's delay */
  downlink?: LinkShape;
  /**
   * Bytes of a connection that a direction holds before it stops reading, as a modem's queue does. What the sender goes
   * on sending fills the buffers of both sockets: on loopback, some megabytes. @default 32_768
   */
  queueBytes?: number;
  clock?: Clock;
}

/** A TCP proxy that behaves like a slow, distant link. */
export interface Shaper {
  readonly port: number;
  /** Changes the uplink at once, for all connections. */
  setUplink(shape: LinkShape | LinkSchedule): void;
  setDownlink(shape: LinkShape | LinkSchedule): void;
  /** Ends every connection and refuses new ones until {@link Shaper.restore}. */
  cut(): void;
  restore(): void;
  /** Bytes carried so far. */
  readonly numBytes: { up: number; down: number };
  close(): Promise<void>;
}

// Bytes leave a queue in pieces about the size of a network packet, so that a rate is smooth, not bursty.
const pieceBytes = 1448;
// Sums of times are not exact.
const timerSlackMs = 1e-6;

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
  const { target, queueBytes = 32_768, clock = systemClock } = options;
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

interface Piece {
  numBytes: number;
  /** It has left the queue. */
  leave: () => void;
  /** It is at the other end. */
  arrive: () => void;
}

class Direction {
  numBytes = 0;
  #shape: LinkShape | LinkSchedule;
  readonly #queueBytes: number;
  readonly #clock: Clock;
  // What waits for the link; the first is on it since `#startMs`.
  #queue: Piece[] = [];
  #startMs = 0;
  // What is under way to the other end, in order.
  #flying: { atMs: number; arrive: () => void }[] = [];
  #stopTimer: () => void = () => {};

  constructor(shape: LinkShape | LinkSchedule, queueBytes: number, clock: Clock) {
    this.#shape = shape;
    this.#queueBytes = queueBytes;
    this.#clock = clock;
  }

  setShape(shape: LinkShape | LinkSchedule): void {
    this.#shape = shape;
    // What waits goes on at the new rate, in its order: the bytes of a connection must not overtake each other.
    this.#startMs = this.#clock.now();
    this.#advance();
  }

  carry(from: Socket, to: Socket): void {
    let queuedBytes = 0;
    const mayRead = (): boolean => queuedBytes < this.#queueBytes && !to.writableNeedDrain;
    from.on('data', (data) => {
      for (let offset = 0; offset < data.length; offset += pieceBytes) {
        const piece = data.subarray(offset, offset + pieceBytes);
        queuedBytes += piece.length;
        this.#add({
          numBytes: piece.length,
          leave() {
            queuedBytes -= piece.length;
            if (from.isPaused() && mayRead()) from.resume();
          },
          arrive: () => to.writable && to.write(piece),
        });
      }
      if (!mayRead()) from.pause();
    });
    to.on('drain', () => mayRead() && from.resume());
    from.on('end', () => this.#add({ numBytes: 0, leave: () => {}, arrive: () => to.end() }));
  }

  #add(piece: Piece): void {
    this.numBytes += piece.numBytes;
    if (this.#queue.length === 0) this.#startMs = Math.max(this.#startMs, this.#clock.now());
    this.#queue.push(piece);
    this.#advance();
  }

  #finishMs(numBytes: number): number {
    const shape = this.#shape;
    if ('finishMs' in shape) return shape.finishMs(this.#startMs, numBytes);
    return numBytes === 0 ? this.#startMs : this.#startMs + (numBytes * 8000) / shape.rateBps;
  }

  /** Lets go what is due by now, and comes back for the rest. */
  #advance(): void {
    const nowMs = this.#clock.now() + timerSlackMs;
    let nextMs = Infinity;
    for (let [piece] = this.#queue; piece !== undefined; [piece] = this.#queue) {
      nextMs = this.#finishMs(piece.numBytes);
      if (nextMs > nowMs) break;
      // By the link's time, not by that of a timer which came late.
      this.#startMs = nextMs;
      this.#queue.shift();
      const atMs = Math.max(nextMs + this.#shape.delayMs, this.#flying.at(-1)?.atMs ?? 0);
      this.#flying.push({ atMs, arrive: piece.arrive });
      piece.leave();
      nextMs = Infinity;
    }
    for (let [first] = this.#flying; first !== undefined; [first] = this.#flying) {
      nextMs = Math.min(nextMs, first.atMs);
      if (first.atMs > nowMs) break;
      this.#flying.shift();
      first.arrive();
      nextMs = this.#queue.length === 0 ? Infinity : this.#finishMs(this.#queue[0]?.numBytes ?? 0);
    }
    this.#stopTimer();
    if (nextMs === Infinity) return;
    this.#stopTimer = this.#clock.after(nextMs - this.#clock.now(), () => this.#advance());
  }
}

/**
 * Makes a shaper's uplink carry what a trace carries, from now on; both directions have its delay.
 *
 * @example
 * ```ts
 * followTrace(shaper, parseTrace(await readFile('lte.up', 'utf8'), { name: 'lte', kind: 'lte' }), systemClock);
 * ```
 */
export function followTrace(shaper: Shaper, trace: LinkSchedule, clock: Clock): void {
  const beginMs = clock.now();
  const { delayMs } = trace;
  shaper.setUplink({
    delayMs,
    finishMs: (startMs, numBytes) => beginMs + trace.finishMs(Math.max(0, startMs - beginMs), numBytes),
  });
  shaper.setDownlink({ rateBps: Infinity, delayMs });
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
