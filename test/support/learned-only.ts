import {
  builtinCodecs,
  calibratedFiles,
  learnedTensors,
  type Manifest,
  type Runtime,
  systemClock,
} from '@isthmus/core';
import {
  addCodec,
  type Bundle,
  bundleSpan,
  heldOutFrames,
  importCodec,
  type ModelProto,
  measureLevels,
  readModel,
  removeCodec,
} from '@isthmus/graph';
import { chainModels, renameTensors } from '../../packages/graph/src/testing/networks.js';
import { type CalibratedFixture, makeCalibratedFixture } from './calibrated.js';
import { withBundle } from './fixture.js';

/** Where the learned codecs of {@link makeLearnedOnly} land. */
const landing = 3;

/** Bundles whose only codec with networks is a learned one, every level of every codec measured. */
export interface LearnedOnly {
  /** With `learned-3`, which lands where it left. */
  shallow: CalibratedFixture;
  /** With `learned-2-3`, whose encoder also does what the segment between does. */
  deep: CalibratedFixture;
}

/**
 * Learned codecs that needed no training: the principal components that `calibrated` found at cut 3, imported as
 * anybody's networks are: tables fitted, levels chosen and measured.
 */
export async function makeLearnedOnly(): Promise<LearnedOnly> {
  const fixture = await makeCalibratedFixture([landing]);
  const { runtime, frames } = fixture;
  const options = { runtime, codecs: builtinCodecs, clock: systemClock };
  const measured = await measureLevels(fixture, { ...options, frames: heldOutFrames(frames) });
  const [encoder, decoder] = await networksOf(measured);
  const before = renameTensors(
    await readModel(bundleSpan(measured, landing - 1, landing)),
    { [nameAt(measured.manifest, landing - 1)]: nameAt(measured.manifest, landing - 1) },
    's/',
  );
  const make = async (id: string, from: number, whole: ModelProto): Promise<CalibratedFixture> => {
    const given = { runtime, clock: systemClock, frames, tuning: { maxValues: 10_000 } };
    const codec = await importCodec({
      ...given,
      bundle: measured,
      id,
      from,
      to: landing,
      encoder: whole,
      decoder,
    });
    let bundle: Bundle = addCodec(measured, codec);
    for (const entry of measured.manifest.codecs) {
      if (entry.kind === 'calibrated') bundle = removeCodec(bundle, entry.id);
    }
    return withBundle(fixture, bundle);
  };
  const joined = renameTensors(
    encoder,
    {
      [nameAt(measured.manifest, landing)]: `s/${nameAt(measured.manifest, landing)}`,
      [learnedTensors.latent]: learnedTensors.latent,
    },
    '',
  );
  return {
    shallow: await make('learned-3', landing, encoder),
    deep: await make('learned-2-3', landing - 1, chainModels(before, joined)),
  };
}

const nameAt = ({ cuts }: Manifest, cut: number): string => cuts[cut]?.tensors[0]?.name ?? '';

async function networksOf({ manifest, files }: Bundle): Promise<[ModelProto, ModelProto]> {
  const entry = manifest.codecs.find(({ kind }) => kind === 'calibrated');
  const read = async (path: string, prefix: string): Promise<ModelProto> => {
    const names = { x: nameAt(manifest, landing), y: learnedTensors.latent };
    return renameTensors(await readModel(files.get(path) ?? new Uint8Array()), names, prefix);
  };
  const id = entry?.id ?? '';
  return [await read(calibratedFiles.encoder(id, 0), 'e/'), await read(calibratedFiles.decoder(id, 0), 'd/')];
}

/** A runtime that knows how many bytes of models are loaded. */
export function countingRuntime(runtime: Runtime): Runtime & { readonly loadedBytes: number } {
  let loadedBytes = 0;
  return {
    description: runtime.description,
    get loadedBytes() {
      return loadedBytes;
    },
    async load(model) {
      const session = await runtime.load(model);
      loadedBytes += model.byteLength;
      let isHeld = true;
      return {
        inputNames: session.inputNames,
        outputNames: session.outputNames,
        run: (feeds, fetches) => session.run(feeds, fetches),
        release() {
          if (isHeld) loadedBytes -= model.byteLength;
          isHeld = false;
          return session.release();
        },
      };
    },
    close: async () => {},
  };
}
