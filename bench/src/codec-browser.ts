import {
  createPreprocessor,
  formatManifest,
  type NamedTensors,
  type RawImage,
  type Runtime,
} from '@isthmus/core';
import { type Bundle, bundleSpan, calibrateBundle } from '@isthmus/graph';
import { createNodeRuntime } from '@isthmus/runtime/node';
import { decodePicture } from '@isthmus/runtime/pictures';
import { pullPhotos } from 'isthmus';
import { openChromium } from './chromium.js';
import { createTrials, type Trial } from './codec-trials.js';
import { prepareModel } from './models.js';
import { type Measured, type RoundsOptions, runRounds } from './rounds.js';

/** The tensor that is coded: of MobileNetV1 what crosses cut 1. */
const shape: readonly number[] = [1, 128, 28, 28];
const numValues = 128 * 28 * 28;

/** About so long a trial goes on in a round, that the page's clock is fine enough and the compilers are awake. */
const trialMs = 10;

/**
 * The coders in a page of headless Chromium against the same in Node: rANS, a deflate in JavaScript, and `calibrated`,
 * fitted to eight photographs and parts of them, of which the first is coded.
 */
export async function measureCodecBrowser(name: string, options: RoundsOptions): Promise<Measured[]> {
  const runtime = createNodeRuntime({ threads: options.threads ?? 1 });
  try {
    const { bundle: plain } = await prepareModel(name, runtime);
    const cut = plain.manifest.cuts.findIndex(
      ({ tensors }) => tensors.length === 1 && tensors[0]!.shape.join() === shape.join(),
    );
    if (cut < 0) throw new Error(`No cut of ${name} is a tensor of [${shape}].`);
    const frames = await readFrames(plain);
    const bundle = await calibrateBundle(plain, { runtime, frames, cuts: [cut] });
    const features = await computeFeatures(bundle, cut, frames[0]!, runtime);
    const text = (value: string) => new TextEncoder().encode(value);
    const files = new Map([
      ...bundle.files,
      ['manifest.json', text(formatManifest(bundle.manifest))] as const,
      ['features', new Uint8Array(features.buffer)] as const,
      ['cut', text(String(cut))] as const,
    ]);
    const { manifest } = bundle;
    const readFile = async (path: string) => files.get(path)!;
    const trials = await createTrials({ manifest, cut, features, readFile, runtime });
    const { page, browser, close } = await openChromium('codec-page.js', files, 'runTrial');
    try {
      const inPage = (trial: string): Trial => {
        return (times) => page.evaluate(`runTrial(${JSON.stringify(trial)}, ${times})`);
      };
      const inNode = (trial: string): Trial => trials.get(trial)!;
      const names = [...trials.keys()];
      return await runRounds(
        [
          { name: `Node ${process.version}`, run: await timeAll(names, inNode) },
          { name: `Chromium ${browser}`, run: await timeAll(names, inPage) },
        ],
        options,
      );
    } finally {
      await close();
    }
  } finally {
    await runtime.close();
  }
}

/** Each photograph and its corners: forty frames, so that a range of rates can be fitted. */
async function readFrames({ manifest }: Bundle): Promise<NamedTensors[]> {
  const preprocessor = createPreprocessor(manifest.preprocess!);
  const input = manifest.cuts[0]!.tensors[0]!.name;
  const frames: NamedTensors[] = [];
  for (const { bytes } of await pullPhotos()) {
    const image = await decodePicture(bytes);
    for (const part of [image, ...corners(image)]) frames.push({ [input]: preprocessor(part) });
  }
  return frames;
}

function corners(image: RawImage): RawImage[] {
  const [width, height] = [Math.floor(0.6 * image.width), Math.floor(0.6 * image.height)];
  const [right, bottom] = [image.width - width, image.height - height];
  const at = (left: number, top: number): RawImage => {
    const rowBytes = width * image.channels;
    const data = new Uint8Array(height * rowBytes);
    for (let y = 0; y < height; y++) {
      const start = ((top + y) * image.width + left) * image.channels;
      data.set(image.data.subarray(start, start + rowBytes), y * rowBytes);
    }
    return { data, width, height, channels: image.channels };
  };
  return [at(0, 0), at(right, 0), at(0, bottom), at(right, bottom)];
}

async function computeFeatures(
  bundle: Bundle,
  cut: number,
  frame: NamedTensors,
  runtime: Runtime,
): Promise<Float32Array<ArrayBuffer>> {
  const session = await runtime.load(bundleSpan(bundle, 0, cut));
  const { outputs } = await session.run(frame);
  await session.release();
  const { data } = outputs[bundle.manifest.cuts[cut]!.tensors[0]!.name]!;
  return Float32Array.from(data as Float32Array);
}

// How often each goes into its share of a round is found out once, when it is warm.
async function timeAll(
  names: readonly string[],
  trialOf: (name: string) => Trial,
): Promise<() => Promise<Record<string, number>>> {
  const timesOf = new Map<string, number>();
  for (const name of names) {
    await trialOf(name)(30);
    const durationMs = await trialOf(name)(10);
    timesOf.set(name, Math.max(1, Math.min(200, Math.round(trialMs / durationMs))));
  }
  return async () => {
    const durationsMs: Record<string, number> = {};
    for (const name of names) durationsMs[name] = await trialOf(name)(timesOf.get(name)!);
    return durationsMs;
  };
}

/** A table in Markdown: one row a coder, both ends beside each other. */
export function formatCodecBrowser([node, chromium]: readonly Measured[]): string {
  const rows = Object.keys(node!.times).map((name) => {
    const [here, there] = [node!.times[name]!.median, chromium!.times[name]!.median];
    const { median, low, high } = chromium!.ratios[name]!;
    const perSecond = (durationMs: number) => (numValues / durationMs / 1000).toFixed(0);
    return [
      name,
      here.toFixed(3),
      there.toFixed(3),
      `${median.toFixed(2)} (${low.toFixed(2)}–${high.toFixed(2)})`,
      perSecond(here),
      perSecond(there),
    ];
  });
  const titles = [
    `${numValues} values`,
    `${node!.name}, ms`,
    `${chromium!.name}, ms`,
    'ratio',
    'Node, M/s',
    'Chromium, M/s',
  ];
  return [titles, titles.map((_, index) => (index === 0 ? '---' : '---:')), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}
