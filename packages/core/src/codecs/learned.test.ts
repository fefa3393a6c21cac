import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IsthmusError, isIsthmusError } from '../errors.js';
import type { CodecEntry, FileRef } from '../manifest.js';
import type { RuntimeSession } from '../runtime.js';
import { createTensor, type NamedTensors, type Tensor } from '../tensor.js';
import { makeCalibratedTables } from '../testing/calibrated.js';
import { makeManifest } from '../testing/manifest.js';
import { formatCalibratedTables, stepOf } from './calibrated/model.js';
import type { CodecContext } from './codec.js';
import { learnedCodec, learnedFiles } from './learned.js';

// Networks in TypeScript: the codec asks a runtime for whatever its files are. The encoder halves, the decoder makes
// [1, 30, 2] of [1, 3, 5, 4], doubled, with the level added where it is told.
const latentShape = [1, 3, 5, 4];
const floats = (shape: number[], values: Iterable<number>): Tensor<'float32'> =>
  createTensor('float32', shape, Float32Array.from(values));

type Network = (feeds: NamedTensors) => NamedTensors;
const halve: Network = ({ t0 }) => ({
  latent: floats(
    latentShape,
    (t0!.data as Float32Array).map((x) => x / 2),
  ),
});
const double: Network = ({ latent, level }) => ({
  t1: floats(
    [1, 30, 2],
    (latent!.data as Float32Array).map((x) => 2 * x + ((level?.data[0] as number | undefined) ?? 0)),
  ),
});

interface Setup {
  encoder?: Network;
  decoder?: Network;
  decoderInputs?: string[];
  tables?: ReturnType<typeof makeCalibratedTables>;
  paths?: CodecEntry['paths'];
  files?: string[];
}

const latentTables = (lambda = 0) =>
  makeCalibratedTables([{ name: 'latent', height: 5, width: 4, scales: [170, 150, 128] }], 32, lambda);

async function open({
  encoder = halve,
  decoder = double,
  decoderInputs = ['latent'],
  tables = latentTables(),
  paths = [{ from: 0, to: 1 }],
  files = [learnedFiles.tables('l'), learnedFiles.encoder('l'), learnedFiles.decoder('l')],
}: Setup = {}) {
  const hash = '0'.repeat(64);
  const entry: CodecEntry = {
    id: 'l',
    kind: 'learned',
    version: 1,
    paths,
    levels: [0, 1].map((level) => ({ name: `level-${level}`, params: {} })),
    tablesSha256: hash,
    files: files.map((path) => ({ path, numBytes: 1, sha256: hash })),
  };
  const manifest = makeManifest([{ shape: [1, 60] }, { shape: [1, 30, 2] }], [entry]);
  const loads: string[] = [];
  const context: CodecContext = {
    manifest,
    entry,
    readFile: async ({ path }: FileRef) =>
      new TextEncoder().encode(path.endsWith('.json') ? formatCalibratedTables(tables) : path),
    runtime: {
      description: 'a test',
      async load(model) {
        const path = new TextDecoder().decode(model);
        loads.push(path);
        const isEncoder = path === learnedFiles.encoder('l');
        const session: RuntimeSession = {
          inputNames: isEncoder ? ['t0'] : decoderInputs,
          outputNames: isEncoder ? ['latent'] : ['t1'],
          run: async (feeds) => ({ outputs: (isEncoder ? encoder : decoder)(feeds), durationMs: 0 }),
          release: async () => {},
        };
        return session;
      },
      close: async () => {},
    },
  };
  return {
    loads,
    encoder: await learnedCodec.createEncoder(context),
    decoder: await learnedCodec.createDecoder(context),
  };
}

const path = (level: number) => ({ from: 0, to: 1, level });
const wave = (size: number): number[] => Array.from({ length: 60 }, (_, i) => size * Math.sin(0.7 * i));
const frame = (values: Iterable<number>) => ({ t0: floats([1, 60], values) });
const refusal = (code: string, message: RegExp) =>
  expect.objectContaining({ code, message: expect.stringMatching(message) });

describe('learned', () => {
  it('has exactly these bytes', async () => {
    const { encoder } = await open();
    const step = stepOf(latentTables().levels[0]!.scale);
    const integers = [9, 7, 0, -3, 8, 6, 1, -2, 5, 5, 0, 0, 3, 2, 0, 0, 1, 0, 0, 0];
    const values = [...integers, ...integers.map((x) => -x >> 1), ...new Array<number>(20).fill(0)];
    const payload = await encoder.encode(frame(values.map((x) => 2 * x * step)), path(0));
    // A mode, and the stream that `calibrated` has for the same components.
    expect(Buffer.from(payload).toString('hex')).toBe(
      '0001597808f9772e007bf6e13d0f119b08ff0f276710f065c6dc3014446516d55800e04457',
    );
  });

  it.each([0, 1])('lands at a later cut, within the dead zone of level %i', async (level) => {
    const { encoder, decoder } = await open();
    const values = wave(40);
    const decoded = await decoder.decode(await encoder.encode(frame(values), path(level)), path(level));
    expect(Object.keys(decoded)).toEqual(['t1']);
    expect(decoded.t1!.shape).toEqual([1, 30, 2]);
    const step = stepOf(latentTables().levels[level]!.scale);
    (decoded.t1!.data as Float32Array).forEach((value, i) => {
      expect(Math.abs(value - values[i]!)).toBeLessThan(2 * 1.6 * step);
    });
  });

  it('tells the level to decoders that ask for it, and to no others', async () => {
    const zeros = frame(new Array<number>(60).fill(0));
    const means = async (decoderInputs: string[], level: number): Promise<number> => {
      const { encoder, decoder } = await open({ decoderInputs });
      const { t1 } = await decoder.decode(await encoder.encode(zeros, path(level)), path(level));
      return (t1!.data as Float32Array).reduce((sum, value) => sum + value / 60, 0);
    };
    expect(await means(['latent', 'level'], 0)).toBeCloseTo(0);
    expect(await means(['latent', 'level'], 1)).toBeCloseTo(1);
    expect(await means(['latent'], 1)).toBeCloseTo(0);
  });

  it('never takes more than the latent and a byte, and gives back exactly what it cannot code', async () => {
    const { encoder, decoder } = await open();
    const most = decoder.maxPayloadBytes(path(0));
    expect(most).toBe(1 + 4 * 60);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 60, maxLength: 60 }),
        async (values) => {
          const payload = await encoder.encode(frame(values), path(0));
          expect(payload.length).toBeLessThanOrEqual(most);
          const { t1 } = await decoder.decode(payload, path(0));
          if (payload[0] === 1)
            expect(t1!.data).toEqual(Float32Array.from(values, (x) => 2 * Math.fround(x / 2) + 0));
        },
      ),
      { numRuns: 300 },
    );
    const beyond = wave(40).with(59, 1e12);
    expect((await encoder.encode(frame(beyond), path(0)))[0]).toBe(1);
  });

  it('refuses frames that are not finite, and encoders that make them so', async () => {
    const { encoder } = await open();
    await expect(encoder.encode(frame(wave(1).with(7, Number.NaN)), path(0))).rejects.toThrow(
      refusal('tensor/not-finite', /^t0 /),
    );
    const exploding = await open({
      encoder: () => ({ latent: floats(latentShape, wave(1).with(3, Infinity)) }),
    });
    await expect(exploding.encoder.encode(frame(wave(1)), path(0))).rejects.toThrow(
      refusal('tensor/not-finite', /latent of l/),
    );
  });

  it.each([
    [[], /too early|bytes|mode/],
    [[7, 1, 2, 3], /mode/],
    [[1, 0, 0, 0, 0], /4 plain bytes, not 240/],
    [[1, ...new Uint8Array(Float32Array.from(wave(1).with(2, Number.NaN)).buffer)], /NaN or infinity/],
    [[0, 1, 2, 3], /corrupt/],
  ])('answers %j with codec/corrupt', async (bytes, message) => {
    const { decoder } = await open();
    await expect(decoder.decode(Uint8Array.from(bytes), path(0))).rejects.toThrow(
      refusal('codec/corrupt', message),
    );
  });

  it('ends in codec/corrupt or in finite values when damaged', async () => {
    const { encoder, decoder } = await open();
    const sound = await encoder.encode(frame(wave(40)), path(0));
    let numCorrupt = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.nat(sound.length - 1),
        fc.nat(255),
        fc.nat(sound.length),
        async (at, value, length) => {
          const damaged = sound.slice(0, Math.max(1, length));
          damaged[at] = value;
          try {
            const { t1 } = await decoder.decode(damaged, path(0));
            expect((t1!.data as Float32Array).every(Number.isFinite)).toBe(true);
          } catch (error) {
            expect(isIsthmusError(error, 'codec/corrupt')).toBe(true);
            numCorrupt++;
          }
        },
      ),
      { numRuns: 1000 },
    );
    expect(numCorrupt).toBeGreaterThan(500);
  });

  it('knows its path and its levels', async () => {
    const { encoder, decoder } = await open();
    await expect(encoder.encode(frame(wave(1)), { from: 0, to: 0, level: 0 })).rejects.toThrow(
      refusal('codec/no-such-path', /only 0→1/),
    );
    await expect(decoder.decode(Uint8Array.of(0), path(2))).rejects.toThrow(
      refusal('codec/no-such-level', /level 2/),
    );
  });

  it.each<[string, Setup, RegExp]>([
    [
      'two paths',
      {
        paths: [
          { from: 0, to: 1 },
          { from: 0, to: 0 },
        ],
      },
      /exactly one path/,
    ],
    ['tables of other tensors', { tables: makeCalibratedTables() }, /one tensor called latent/],
    ['no tables', { files: [] }, /lacks its file codecs\/l\/tables\.json/],
  ])('refuses to open with %s', async (_, setup, message) => {
    await expect(open(setup)).rejects.toThrow(refusal('bundle/invalid', message));
  });

  it('says which network gives something else than the bundle says', async () => {
    const narrow = await open({
      encoder: () => ({ latent: floats([1, 3, 5, 3], new Array<number>(45).fill(0)) }),
    });
    await expect(narrow.encoder.encode(frame(wave(1)), path(0))).rejects.toThrow(
      refusal('bundle/invalid', /of its encoder, latent has shape \[1,3,5,3\], not \[1,3,5,4\]/),
    );
    const mute = await open({ decoder: () => ({}) });
    const payload = await mute.encoder.encode(frame(wave(1)), path(0));
    await expect(mute.decoder.decode(payload, path(0))).rejects.toThrow(
      refusal('bundle/invalid', /of its decoder, The tensor t1 is missing/),
    );
  });

  it('loads a network once, and again when the worker that held it died', async () => {
    let crashes = 1;
    const { encoder, loads } = await open({
      encoder: (feeds) => {
        if (crashes-- > 0) throw new IsthmusError('runtime/crashed', 'The worker died.');
        return halve(feeds);
      },
    });
    await encoder.encode(frame(wave(1)), path(0));
    await encoder.encode(frame(wave(2)), path(1));
    expect(loads).toEqual([learnedFiles.encoder('l'), learnedFiles.encoder('l')]);
    crashes = 2;
    await expect(encoder.encode(frame(wave(1)), path(0))).rejects.toThrow(refusal('runtime/crashed', /died/));
    await expect(encoder.encode(frame(wave(1)), path(0))).resolves.toBeInstanceOf(Uint8Array);
  });
});
