import {
  type CalibratedTables,
  calibratedFiles,
  createTensor,
  type NamedTensors,
  parseCalibratedTables,
  type Runtime,
  systemClock,
} from '@isthmus/core';
import type { BuiltCodec } from '../build-codec.js';
import { type Bundle, bundleSpan } from '../bundle.js';
import { calibrateBundle } from '../calibrate/calibrate.js';
import { type ImportCodecOptions, importCodec } from '../learned/import-codec.js';
import type { ModelProto } from '../onnx_pb.js';
import { readModel } from '../read.js';
import { splitModel } from '../split.js';
import { writeModel } from '../write.js';
import { chainModel } from './models.js';
import { chainModels, renameTensors } from './networks.js';

/** A bundle, and networks to import into it that needed no training: those of `calibrated` at its cut 1. */
export interface LearnedFixture {
  bundle: Bundle;
  frames: NamedTensors[];
  /** The calibrated codec's id, and its tables. */
  codecId: string;
  tables: CalibratedTables;
  encoder: ModelProto;
  decoder: ModelProto;
  /** The same decoder, with the segment behind the cut. */
  deepDecoder: ModelProto;
  /** Imports them from the cut to the same, but for what is said otherwise. */
  importOne(options?: Partial<ImportCodecOptions>): Promise<BuiltCodec>;
}

/** The cut that the codecs leave from; another lies behind it. */
export const learnedCut = 1;

export async function makeLearnedFixture(runtime: Runtime): Promise<LearnedFixture> {
  const frames = Array.from({ length: 24 }, (_, i) => makeFrame(i + 1));
  const tuning = { numProbes: 32, numProbeFrames: 2, maxValues: 20_000, maxBlockSize: 128 };
  const plain = await splitModel(writeModel(chainModel('N')), {
    runtime,
    name: 'test',
    provenance: { source: 'a test', licence: 'none' },
    profileRuns: 0,
    cutAt: [['block1'], ['features']],
  });
  const bundle = await calibrateBundle(plain, { runtime, frames, tuning, cuts: [learnedCut] });
  const { id } = bundle.manifest.codecs.find(({ kind }) => kind === 'calibrated')!;
  const fileOf = (path: string): Uint8Array => bundle.files.get(path)!;
  const read = async (path: string, prefix: string): Promise<ModelProto> =>
    renameTensors(await readModel(fileOf(path)), { x: 'block1', y: 'latent' }, prefix);
  const encoder = await read(calibratedFiles.encoder(id, 0), 'e/');
  const decoder = await read(calibratedFiles.decoder(id, 0), 'd/');
  return {
    bundle,
    frames,
    codecId: id,
    tables: parseCalibratedTables(new TextDecoder().decode(fileOf(calibratedFiles.tables(id)))),
    encoder,
    decoder,
    deepDecoder: chainModels(decoder, await readModel(bundleSpan(bundle, learnedCut, learnedCut + 1))),
    importOne: (options = {}) =>
      importCodec({
        bundle,
        runtime,
        clock: systemClock,
        id: 'learned-test',
        from: learnedCut,
        to: learnedCut,
        encoder,
        decoder,
        frames,
        tuning,
        ...options,
      }),
  };
}

// Slopes and waves, another for each seed.
function makeFrame(seed: number): NamedTensors {
  const data = Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => {
    const [channel, y, x] = [Math.floor(i / 1024), Math.floor(i / 32) % 32, i % 32];
    const edge = x + y > 10 + ((seed * 7) % 40) ? 0.7 : -0.3;
    return edge + Math.sin((seed + 2) * 0.09 * x + channel) * Math.cos((seed % 7) * 0.15 * y);
  });
  return { image: createTensor('float32', [1, 3, 32, 32], data) };
}
