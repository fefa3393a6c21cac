import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isIsthmusError } from '@isthmus/core';
import { importTfjsLayers } from '@isthmus/graph';
import type { ModelRecipe, ReferenceFigures } from '@isthmus/models';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PullOptions, PullProgress } from './pull-options.js';
import { pullRecipe } from './pull-recipe.js';
import {
  type Answer,
  type FileServer,
  hanging,
  reset,
  startFileServer,
  status,
  whole,
} from './testing/file-server.js';
import { integrityOf, makeTarball } from './testing/tarball.js';

// A model that hands its 4 × 4 picture through, flattened in the order height, width, channel.
const modelJson = JSON.stringify({
  modelTopology: {
    model_config: {
      class_name: 'Sequential',
      config: {
        name: 'flat',
        layers: [{ class_name: 'Flatten', config: { name: 'flat', batch_input_shape: [null, 4, 4, 3] } }],
      },
    },
  },
  weightsManifest: [],
});
const tarball = await makeTarball({
  'README.md': 'Not needed.',
  'model/model.json': modelJson,
  labels: 'a\nb',
});

// What the formula input is, written down again: (7r + 3c, 2r + 5c, r·c) modulo 256.
const pixels = [0, 1, 2, 3].flatMap((r) =>
  [0, 1, 2, 3].flatMap((c) => [7 * r + 3 * c, 2 * r + 5 * c, r * c]),
);
const reference: ReferenceFigures = {
  output: 'flat',
  shape: [1, 48],
  first8: [0, 0, 0, 3, 5, 0, 6, 10],
  top5: [
    { index: 45, value: 30 },
    { index: 42, value: 27 },
    { index: 39, value: 24 },
    { index: 33, value: 23 },
    { index: 36, value: 21 },
  ],
  sum: pixels.reduce((sum, value) => sum + value, 0),
  min: 0,
};

const recipe: ModelRecipe = {
  name: 'flat',
  description: 'Hands the picture through',
  licence: 'CC0-1.0',
  revision: 3,
  package: {
    name: '@test/flat',
    version: '1.2.3',
    integrity: integrityOf(tarball),
    numBytes: tarball.length,
  },
  files: ['model/model.json', 'labels'],
  convert: (files) =>
    importTfjsLayers({
      modelJson: new TextDecoder().decode(files.get('model/model.json')),
      weights: new Map(),
    }),
  preprocess: { width: 4, height: 4, colorOrder: 'rgb', fit: 'fill', mean: [0, 0, 0], std: [1, 1, 1] },
  readTask: (files) => ({
    kind: 'classification',
    output: 'flat',
    activation: 'none',
    labels: new TextDecoder().decode(files.get('labels')).split('\n'),
  }),
  reference,
};

const runtime = createNodeRuntime({ threads: 1 });
afterAll(() => runtime.close());

let cacheDir: string;
let server: FileServer | undefined;
beforeEach(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), 'isthmus-pull-'));
});
afterEach(async () => {
  await server?.close();
  server = undefined;
  await rm(cacheDir, { recursive: true, force: true });
});

/** A registry whose answer to the tarball is scripted, request after request. */
async function serve(script: readonly Answer[], dist: Record<string, unknown> = {}): Promise<PullOptions> {
  let downloads = 0;
  server = await startFileServer((request, response) => {
    if (request.url === '/@test%2fflat/1.2.3') {
      const answer = {
        dist: { tarball: `${server!.url}/flat.tgz`, integrity: integrityOf(tarball), ...dist },
      };
      response.end(JSON.stringify(answer));
    } else {
      script[Math.min(downloads++, script.length - 1)]!(request, response);
    }
  });
  return { runtime, cacheDir, registryUrl: `${server.url}/`, now: () => new Date('2026-01-02T03:04:05Z') };
}

async function refusal(work: Promise<unknown>) {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!isIsthmusError(error)) throw new Error(`Expected an IsthmusError, got ${error}`);
  return error;
}

const models = () => readdir(join(cacheDir, 'models')).catch(() => []);

describe('pullRecipe', () => {
  it('downloads, converts, verifies and records where the model came from', async () => {
    const phases: PullProgress['phase'][] = [];
    const options = await serve([whole(tarball)]);
    const pulled = await pullRecipe(recipe, { ...options, onProgress: ({ phase }) => phases.push(phase) });
    expect([...new Set(phases)]).toEqual(['resolve', 'download', 'convert', 'verify', 'store']);
    expect(pulled).toMatchObject({ name: 'flat', fromCache: false, preprocess: recipe.preprocess });
    expect(pulled.task).toMatchObject({ kind: 'classification', labels: ['a', 'b'] });
    expect(pulled.provenance).toMatchObject({
      source: '@test/flat@1.2.3',
      licence: 'CC0-1.0',
      integrity: integrityOf(tarball),
      convertedAt: '2026-01-02T03:04:05.000Z',
    });
    const session = await runtime.load(await readFile(pulled.modelPath));
    expect(session.outputNames).toEqual(['flat']);
    await session.release();
    expect(await models()).toEqual(['flat-r3']);
  });

  it('finds it in the cache without network the second time', async () => {
    const options = await serve([whole(tarball)]);
    const first = await pullRecipe(recipe, options);
    await server!.close();
    expect(await pullRecipe(recipe, options)).toEqual({ ...first, fromCache: true });
  });

  it('makes a new copy where the cached one is damaged, from the package it still has', async () => {
    const options = await serve([whole(tarball)]);
    const { modelPath } = await pullRecipe(recipe, options);
    await server!.close();
    await truncate(modelPath, 100);
    const again = await pullRecipe(recipe, options);
    expect(again.fromCache).toBe(false);
    expect((await readFile(again.modelPath)).length).toBeGreaterThan(100);
    expect(await models()).toEqual(['flat-r3']);
  });

  it('does not use what an older revision of the recipe made', async () => {
    const options = await serve([whole(tarball)]);
    await pullRecipe(recipe, options);
    const newer = await pullRecipe({ ...recipe, revision: 4 }, options);
    expect(newer.fromCache).toBe(false);
  });

  it('lets two pulls at once both succeed', async () => {
    const options = await serve([whole(tarball)]);
    const [one, two] = await Promise.all([pullRecipe(recipe, options), pullRecipe(recipe, options)]);
    expect(one.provenance).toEqual(two.provenance);
    expect(await models()).toEqual(['flat-r3']);
  });

  it('goes on where an interrupted pull stopped', async () => {
    const half = Math.floor(tarball.length / 2);
    const options = await serve([hanging(tarball, half), reset, whole(tarball)]);
    const error = await refusal(
      pullRecipe(recipe, {
        ...options,
        onProgress: ({ phase, receivedBytes }) => {
          if (phase === 'download' && receivedBytes === half) server!.breakConnections();
        },
      }),
    );
    expect(error).toMatchObject({ code: 'pull/download-failed', retryable: true });
    expect(await models()).toEqual([]);
    await pullRecipe(recipe, options);
    expect(server!.requests.at(-1)!.range).toBe(`bytes=${half}-`);
  });

  it('refuses before downloading when the registry offers other contents', async () => {
    const options = await serve([whole(tarball)], { integrity: integrityOf(Buffer.from('other')) });
    expect((await refusal(pullRecipe(recipe, options))).code).toBe('pull/integrity');
    expect(server!.requests).toHaveLength(1);
  });

  it('trusts the recipe, not the registry: other bytes under the right name are refused', async () => {
    const forged = Buffer.from(tarball);
    forged[forged.length - 1]! ^= 1;
    const options = await serve([whole(forged)]);
    expect((await refusal(pullRecipe(recipe, options))).code).toBe('pull/integrity');
    expect(await models()).toEqual([]);
    expect(await readdir(join(cacheDir, 'downloads'))).toEqual([]);
  });

  it.each([
    { what: 'a version that is not there', answer: status(404), retryable: false },
    { what: 'a registry out of order', answer: status(503), retryable: true },
    { what: 'a broken connection', answer: reset, retryable: true },
    { what: 'something that is no registry', answer: whole(Buffer.from('<html>')), retryable: false },
  ])('reports $what', async ({ answer, retryable }) => {
    server = await startFileServer(answer);
    const error = await refusal(pullRecipe(recipe, { runtime, cacheDir, registryUrl: server.url }));
    expect(error).toMatchObject({ code: 'pull/download-failed', retryable });
  });

  it('keeps nothing of a model that answers differently than it should', async () => {
    const options = await serve([whole(tarball)]);
    const demanding = { ...recipe, reference: { ...reference, sum: reference.sum * 1.01 } };
    const error = await refusal(pullRecipe(demanding, options));
    expect(error.code).toBe('model/verify-failed');
    expect(error.message).toContain('the sum');
    expect(await models()).toEqual([]);
  });

  it('reports a package without the files it needs', async () => {
    const options = await serve([whole(tarball)]);
    const error = await refusal(pullRecipe({ ...recipe, files: ['model/other.json'] }, options));
    expect(error.code).toBe('pull/integrity');
    expect(error.message).toContain('model/other.json');
  });

  it('reports a file in the way of the cache', async () => {
    const options = await serve([whole(tarball)]);
    const blocked = join(cacheDir, 'blocked');
    await writeFile(blocked, '');
    expect((await refusal(pullRecipe(recipe, { ...options, cacheDir: blocked }))).code).toBe('pull/disk');
  });

  it('reports a file in the way of the model, and keeps no half of it', async () => {
    const options = await serve([whole(tarball)]);
    await mkdir(cacheDir, { recursive: true });
    await writeFile(join(cacheDir, 'models'), '');
    expect((await refusal(pullRecipe(recipe, options))).code).toBe('pull/disk');
    expect(existsSync(join(cacheDir, 'models', 'flat-r3'))).toBe(false);
  });

  it('stops when cancelled', async () => {
    const options = await serve([whole(tarball)]);
    const abort = new AbortController();
    const cancelled = pullRecipe(recipe, {
      ...options,
      signal: abort.signal,
      onProgress: ({ phase }) => {
        if (phase === 'verify') abort.abort();
      },
    });
    expect((await refusal(cancelled)).code).toBe('request/cancelled');
    expect(await models()).toEqual([]);
  });
});
