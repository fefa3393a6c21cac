import { createReceiver, memoryBundle, type Receiver, type ReceiverOptions } from '@isthmus/cloud';
import { formatManifest, isIsthmusError, type Manifest } from '@isthmus/core';
import type { Fixture } from './fixture.js';

/** A receiver of the fixture's bundle on a port of its own, that can go away and come back on the same one. */
export interface TestReceiver {
  readonly url: string;
  readonly receiver: Receiver;
  stop(): Promise<void>;
  /** Comes back, with another bundle if one is given. */
  start(files?: ReadonlyMap<string, Uint8Array>): Promise<void>;
}

export async function startReceiver(
  fixture: Fixture,
  options: Partial<ReceiverOptions> = {},
  files: ReadonlyMap<string, Uint8Array> = fixture.files,
): Promise<TestReceiver> {
  let receiver: Receiver | undefined;
  let port = 0;
  let url = '';
  const start = async (served = files): Promise<void> => {
    receiver = await createReceiver({
      bundles: [memoryBundle(served)],
      runtime: fixture.runtime,
      ...options,
    });
    ({ port, url } = await receiver.listen(port));
  };
  await start();
  return {
    get url() {
      return url;
    },
    get receiver() {
      return receiver!;
    },
    stop: async () => receiver?.close(),
    start,
  };
}

/** The code a promise rejects with. */
export function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'no error',
    (error: unknown) => (isIsthmusError(error) ? error.code : String(error)),
  );
}

/** The files of a bundle with some of its manifest changed. */
export function withManifest(fixture: Fixture, changes: Partial<Manifest>): ReadonlyMap<string, Uint8Array> {
  const text = formatManifest({ ...fixture.manifest, ...changes });
  return new Map([...fixture.files, ['manifest.json', new TextEncoder().encode(text)]]);
}
