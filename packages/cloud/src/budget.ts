/** Counts bytes held on behalf of clients, over all connections. */
export class ByteBudget {
  readonly #maxBytes: number;
  #usedBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Whether there was room. */
  tryTake(numBytes: number): boolean {
    if (this.#usedBytes + numBytes > this.#maxBytes) return false;
    this.#usedBytes += numBytes;
    return true;
  }

  /** For what is there already, like a result: it counts against what comes next. */
  take(numBytes: number): void {
    this.#usedBytes += numBytes;
  }

  give(numBytes: number): void {
    this.#usedBytes -= numBytes;
  }
}
