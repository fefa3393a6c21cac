import { createReceiver, memoryBundle, type Receiver, type ReceiverOptions } from '@isthmus/cloud';
import type { Runtime } from '@isthmus/core';
import type { ClientOptions } from 'ws';
import type { Fixture } from './fixture.js';
import { connectWire, type WireClient } from './wire-client.js';

/** Receivers and clients of one test file, closed together after each test. */
export interface Stage {
  /** A receiver of the fixture on a port of its own. */
  open(
    fixture: Fixture,
    options?: Partial<ReceiverOptions>,
  ): Promise<{ receiver: Receiver; url: string; http: string; connect: Connect }>;
  /** To be called in `afterEach`. */
  clear(): Promise<void>;
}

type Connect = (options?: ClientOptions) => Promise<WireClient>;

export function createStage(): Stage {
  let receivers: Receiver[] = [];
  let clients: WireClient[] = [];
  return {
    async open(fixture, options = {}) {
      const receiver = await createReceiver({
        bundles: [memoryBundle(fixture.files)],
        runtime: fixture.runtime,
        ...options,
      });
      receivers.push(receiver);
      const { url } = await receiver.listen(0);
      const connect: Connect = async (clientOptions) => {
        const client = await connectWire(url, clientOptions);
        clients.push(client);
        return client;
      };
      return { receiver, url, http: url.replace('ws:', 'http:'), connect };
    },
    async clear() {
      for (const client of clients) client.socket.terminate();
      await Promise.all(receivers.map((receiver) => receiver.close()));
      receivers = [];
      clients = [];
    },
  };
}

/** A runtime whose runs wait at a gate. */
export interface GatedRuntime extends Runtime {
  shut(): void;
  open(): void;
  /** Runs that wait or have waited. */
  readonly arrived: number;
}

/** Holds the runs of a real runtime back, so that a test can look at what waits. */
export function gateRuntime(runtime: Runtime): GatedRuntime {
  let waiting: (() => void)[] | undefined;
  let arrived = 0;
  return {
    get description() {
      return runtime.description;
    },
    get arrived() {
      return arrived;
    },
    shut() {
      waiting ??= [];
    },
    open() {
      for (const pass of waiting ?? []) pass();
      waiting = undefined;
    },
    async load(model) {
      const session = await runtime.load(model);
      return {
        inputNames: session.inputNames,
        outputNames: session.outputNames,
        async run(feeds, fetches) {
          arrived++;
          if (waiting !== undefined) await new Promise<void>((resolve) => waiting!.push(resolve));
          return session.run(feeds, fetches);
        },
        release: () => session.release(),
      };
    },
    close: () => runtime.close(),
  };
}

/** Waits until a condition on the outside world holds; the test's own time limit is the only one. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}
