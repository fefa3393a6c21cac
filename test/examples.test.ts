import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createMemoryCache } from '@isthmus/device';
import { type Photo, pullPhotos } from 'isthmus';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startExample } from './support/example.js';
import { isthmus, type ReceiverProcess, serve } from './support/process.js';

// The page has a test of its own, in browser/.
const model = 'mobilenet-v1';
let folder: string;
let photos: Photo[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'isthmus-examples-'));
  const { exitCode, stderr } = await isthmus(['split', model, '--out', join(folder, model)]);
  expect(exitCode, stderr).toBe(0);
  photos = (await pullPhotos()).slice(0, 2);
  await mkdir(join(folder, 'photos'));
  for (const { name, bytes } of photos) await writeFile(join(folder, 'photos', name), bytes);
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

describe('node-camera', () => {
  let receiver: ReceiverProcess;
  beforeAll(async () => {
    receiver = await serve([join(folder, model), '--port', '0']);
  });
  afterAll(async () => {
    await receiver?.stop();
  });
  const start = (...args: string[]) =>
    startExample('node-camera', args, { ISTHMUS_CACHE: join(folder, 'cache'), INIT_CWD: folder });

  it('prints label, plan, bytes and time of each frame, and begins again after the last picture', async () => {
    const camera = await start(receiver.url, model, 'photos', '3');
    const { exitCode, output } = await camera.finished();
    const lines = output.trimEnd().split('\n');
    const name = (index: number): string => photos[index]!.name.replace('.', '\\.');
    const rest = ': .+ \\| (local|cut \\d \\S+ level \\d) \\| \\d+ bytes \\| [\\d.]+ ms';
    expect(lines).toEqual([0, 1, 0].map((index) => expect.stringMatching(`^${name(index)}${rest}$`)));
    expect(exitCode).toBe(0);
  });

  it('says how it is used', async () => {
    const { exitCode, output } = await (await start()).finished();
    expect(output).toContain('usage: ');
    expect(exitCode).toBe(2);
  });
});

describe('receiver-in-http-server', () => {
  it('answers on its own route and as a receiver, and drains when told to end', async () => {
    const server = await startExample('receiver-in-http-server', [model], { INIT_CWD: folder, PORT: '0' });
    const [, hello, socket] = /^(http:\S+) and (ws:\S+)$/.exec(await server.line())!;
    expect(await (await fetch(hello!)).text()).toBe(`This server also serves ${model}.\n`);
    const session = await connect(socket!, {
      model,
      plan: { kind: 'split', from: 0, codec: 'raw', level: 0, to: 0 },
      cache: createMemoryCache(),
    });
    const { output } = await session.run(photos[0]!.bytes);
    expect(output.kind).toBe('classification');
    await session.close();
    expect(await server.stop()).toMatchObject({ exitCode: 0, output: expect.stringContaining('Drained.') });
  });
});
