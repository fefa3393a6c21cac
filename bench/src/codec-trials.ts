import {
  builtinCodecs,
  type CodecEntry,
  calibratedFiles,
  createTensor,
  decodeRans,
  encodeRans,
  type FileRef,
  type FrequencyTable,
  findCodecKind,
  type Manifest,
  PlaneDecoder,
  PlaneEncoder,
  parseCalibratedTables,
  prepareDecoding,
  prepareEncoding,
  type Runtime,
  tableFromCounts,
} from '@isthmus/core';
import { deflateSync, inflateSync } from 'fflate';

/** What is timed at both ends: a tensor of a cut, and the bundle whose codecs carry it. */
export interface TrialInputs {
  manifest: Manifest;
  cut: number;
  features: Float32Array<ArrayBuffer>;
  readFile: (path: string) => Promise<Uint8Array>;
  runtime: Runtime;
}

/** Does one thing so often, and gives the milliseconds of one time. */
export type Trial = (times: number) => Promise<number>;

/**
 * The coders over one tensor, by name, each with how often it is done in a round. The same code runs in a page and in
 * Node; everything that needs to be made once is made here, and every decoder has been seen to give back what was coded.
 */
export async function createTrials(inputs: TrialInputs): Promise<Map<string, Trial>> {
  const trials = new Map<string, Trial>();
  for (const bits of [8, 4]) {
    for (const [name, run] of entropyTrials(inputs.features, bits)) trials.set(name, repeat(run));
  }
  for (const [name, run] of await calibratedTrials(inputs)) trials.set(name, repeat(run));
  return trials;
}

function repeat(run: () => unknown): Trial {
  return async (times) => {
    const startMs = performance.now();
    for (let time = 0; time < times; time++) {
      const result = run();
      // A promise costs a turn of the queue; what gives none is not made to wait.
      if (result instanceof Promise) await result;
    }
    return (performance.now() - startMs) / times;
  };
}

function entropyTrials(features: Float32Array, bits: number): [string, () => unknown][] {
  const codes = quantize(features, 2 ** bits - 1);
  const table = countCodes(codes, 2 ** bits - 1);
  const [encoding, decoding] = [prepareEncoding([table]), prepareDecoding([table])];
  const stream = encodeRans(encoding, codes, 0);
  const decoded = new Int32Array(codes.length);
  decodeRans(decoding, stream, decoded, 0);
  checkSame(decoded, codes);
  const bytes = Uint8Array.from(codes);
  const deflated = deflateSync(bytes, { level: 6 });
  checkSame(inflateSync(deflated), bytes);
  return [
    [`rANS encode, ${bits} bits`, () => encodeRans(encoding, codes, 0)],
    [`rANS decode, ${bits} bits`, () => decodeRans(decoding, stream, decoded, 0)],
    [`fflate 6 deflate, ${bits} bits`, () => deflateSync(bytes, { level: 6 })],
    [`fflate 6 inflate, ${bits} bits`, () => inflateSync(deflated)],
  ];
}

// All channels on one scale: what is timed is the coder, and one table is what it is fastest with.
function quantize(features: Float32Array, top: number): Int32Array {
  const largest = features.reduce((most, value) => Math.max(most, value), 0);
  const least = features.reduce((most, value) => Math.min(most, value), 0);
  return Int32Array.from(features, (value) => Math.round(((value - least) / (largest - least)) * top));
}

function countCodes(codes: Int32Array, top: number): FrequencyTable {
  const counts = new Float64Array(top + 1);
  for (const code of codes) counts[code]! += 1;
  return tableFromCounts(counts, { precision: 12, minValue: 0, escapeCount: 1 });
}

async function calibratedTrials(inputs: TrialInputs): Promise<[string, () => unknown][]> {
  const { manifest, cut, features, runtime, readFile } = inputs;
  const entry = findEntry(manifest, cut);
  const kind = findCodecKind(builtinCodecs, entry);
  const context = { manifest, entry, runtime, readFile: ({ path }: FileRef) => readFile(path) };
  const [encoder, decoder] = [await kind.createEncoder(context), await kind.createDecoder(context)];
  const { name, shape } = manifest.cuts[cut]!.tensors[0]!;
  const tensor = createTensor('float32', shape, features);
  const tables = parseCalibratedTables(
    new TextDecoder().decode(await readFile(calibratedFiles.tables(entry.id))),
  );
  const [planeEncoder, planeDecoder] = [new PlaneEncoder(tables), new PlaneDecoder(tables)];
  const transform = await runtime.load(await readFile(calibratedFiles.encoder(entry.id, 0)));
  const { outputs } = await transform.run({ [transform.inputNames[0]!]: tensor });
  const transformed = [outputs[transform.outputNames[0]!]!.data as Float32Array];
  const trials: [string, () => unknown][] = [];
  for (let level = 0; level < entry.levels.length; level += 2) {
    const path = { from: cut, to: cut, level };
    const payload = await encoder.encode({ [name]: tensor }, path);
    if (payload[0] !== 0) throw new Error(`Level ${level} did not code the tensor.`);
    const stream = payload.slice(1);
    const levelName = `level ${level}, ${payload.byteLength} bytes`;
    trials.push(
      [`calibrated encode, ${levelName}`, () => encoder.encode({ [name]: tensor }, path)],
      [`calibrated decode, ${levelName}`, () => decoder.decode(payload, path)],
      [`of that the integers: encode, level ${level}`, () => planeEncoder.encode(transformed, level)],
      [`of that the integers: decode, level ${level}`, () => planeDecoder.decode(stream, level)],
    );
  }
  return trials;
}

// Of several, the one with the most levels: the others are good for a few rates.
function findEntry({ codecs }: Manifest, cut: number): CodecEntry {
  const [found] = codecs
    .filter(({ kind, paths }) => kind === 'calibrated' && paths[0]!.from === cut)
    .sort((a, b) => b.levels.length - a.levels.length);
  if (found === undefined) throw new Error(`No calibrated codec was kept at cut ${cut}.`);
  return found;
}

function checkSame(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] !== expected[i]) throw new Error('A coder did not give back what it was given.');
  }
}
