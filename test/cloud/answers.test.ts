import { createReceiver, memoryBundle, type Receiver } from '@isthmus/cloud';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Fixture, makeFixture, relativeDifference } from '../support/fixture.js';
import { connectWire, encodeRequest, request } from '../support/wire-client.js';

let fixture: Fixture;
let receiver: Receiver;
let url: string;

beforeAll(async () => {
  fixture = await makeFixture();
  receiver = await createReceiver({ bundles: [memoryBundle(fixture.files)] });
  ({ url } = await receiver.listen(0));
});
afterAll(async () => {
  await receiver.close();
  await fixture.runtime.close();
});

describe('a receiver', () => {
  it('answers raw at every cut as the whole model does', async () => {
    const client = await connectWire(url);
    await client.hello();
    for (const { from: index } of fixture.manifest.codecs[0]!.paths) {
      const outputs = await request(client, index, await encodeRequest(fixture, index), fixture.manifest);
      expect(Object.keys(outputs)).toEqual(['features', 'scores']);
      for (const [name, tensor] of Object.entries(outputs)) {
        expect(tensor.shape).toEqual(fixture.expected[name]!.shape);
        expect(relativeDifference(tensor, fixture.expected[name]!)).toBeLessThan(1e-5);
      }
    }
    await client.close();
  });
});
