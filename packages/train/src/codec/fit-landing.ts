import type { LandingGeometry, Maps } from './landing-geometry.js';
import { createRidge } from './ridge.js';

/** Two convolutions from latents to the maps of a later cut, whose results are added. */
export interface LinearLanding {
  /** Components, the largest first, of which a whole neighbourhood is seen. */
  readonly numWide: number;
  /** [channels · block², numWide, kernel, kernel] */
  readonly wide: Float32Array<ArrayBuffer>;
  /** Of the other components, where they lie in the middle: [channels · block², others, stride, stride]. */
  readonly narrow: Float32Array<ArrayBuffer>;
  readonly bias: Float32Array<ArrayBuffer>;
  /** Standard deviations of the cut's channels. */
  readonly deviations: Float32Array<ArrayBuffer>;
  /** Where the cut's values end hard, such as at zero; undefined where they do not. */
  readonly low: number | undefined;
  readonly high: number | undefined;
}

export interface FitLandingOptions {
  /** [components, rows, columns] each. */
  latents: readonly Float32Array[];
  latentShape: readonly [1, number, number, number];
  /** Of the components. */
  deviations: ArrayLike<number>;
  /** The cut's tensor for each frame, as maps. */
  targets: readonly Float32Array[];
  maps: Maps;
  geometry: LandingGeometry;
}

const mostFeatures = 1024;
/** Components of which a neighbourhood is seen: more cost the cloud much and say little. */
const mostAround = 64;
const mostSamples = 16_384;
/** Of a step at which latents are known: quantization is noise, and noise is what a penalty stands for. */
const quantizerStep = 0.25;
/** And of what few samples say: a share of a feature's own variance. */
const leastShare = 1e-3;

/**
 * Fits by ridge regression what a latent's neighbourhood says linearly of a later cut: of the positions in its middle all
 * components, of those around it the largest.
 */
export function fitLanding(options: FitLandingOptions): LinearLanding {
  const { latents, latentShape, deviations, targets, maps, geometry } = options;
  const [, numComponents, rows, columns] = latentShape;
  const { channels, height, width } = maps;
  const { stride, block, kernel } = geometry;
  const taps = chooseTaps(numComponents, geometry);
  const numOutputs = channels * block * block;
  // The last feature is always one.
  const ridge = createRidge(taps.length + 1, numOutputs);
  const features = new Float64Array(taps.length + 1);
  const outputs = new Float64Array(numOutputs);
  features[taps.length] = 1;
  const [outRows, outColumns] = [height / block, width / block];
  const area = outRows * outColumns;
  const every = Math.max(1, Math.ceil((latents.length * area) / mostSamples));
  for (let sample = 0; sample < latents.length * area; sample += every) {
    const [frame, position] = [Math.floor(sample / area), sample % area];
    const [row, column] = [Math.floor(position / outColumns), position % outColumns];
    const [latent, target] = [latents[frame], targets[frame]];
    if (latent === undefined || target === undefined) continue;
    taps.forEach(({ component, y, x }, index) => {
      const [atY, atX] = [row * stride + y - 1, column * stride + x - 1];
      const isInside = atY >= 0 && atX >= 0 && atY < rows && atX < columns;
      features[index] = isInside ? (latent[(component * rows + atY) * columns + atX] ?? 0) : 0;
    });
    for (let index = 0; index < numOutputs; index++) {
      const channel = Math.floor(index / (block * block));
      const y = row * block + (Math.floor(index / block) % block);
      outputs[index] = target[(channel * height + y) * width + column * block + (index % block)] ?? 0;
    }
    ridge.add(features, outputs);
  }
  const penalties = taps.map(
    ({ component }) => quantizerStep ** 2 / 12 + leastShare * (deviations[component] ?? 0) ** 2,
  );
  const solution = ridge.solve([...penalties, 0]);
  const numWide = Math.max(1, countWide(taps));
  const numNarrow = numComponents - numWide;
  const wide = new Float32Array(numOutputs * numWide * kernel * kernel);
  const narrow = new Float32Array(numOutputs * numNarrow * stride * stride);
  taps.forEach(({ component, y, x }, index) => {
    const isWide = component < numWide;
    const [into, size, count] = isWide ? [wide, kernel, numWide] : [narrow, stride, numNarrow];
    const [own, row, column] = isWide ? [component, y, x] : [component - numWide, y - 1, x - 1];
    for (let output = 0; output < numOutputs; output++) {
      const at = ((output * count + own) * size + row) * size + column;
      into[at] = solution[index * numOutputs + output] ?? 0;
    }
  });
  const bias = Float32Array.from(solution.subarray(taps.length * numOutputs));
  return { numWide, wide, narrow, bias, ...describeMaps(targets, channels) };
}

interface Tap {
  component: number;
  y: number;
  x: number;
}

function chooseTaps(numComponents: number, { stride, kernel }: LandingGeometry): Tap[] {
  const inMiddle = stride * stride;
  const around = kernel * kernel - inMiddle;
  const numMiddle = Math.min(numComponents, Math.floor(mostFeatures / inMiddle));
  const numLeft = Math.floor((mostFeatures - numMiddle * inMiddle) / around);
  const numAround = Math.min(numMiddle, numLeft, mostAround);
  const taps: Tap[] = [];
  for (let y = 0; y < kernel; y++) {
    for (let x = 0; x < kernel; x++) {
      const isMiddle = y >= 1 && x >= 1 && y <= stride && x <= stride;
      const count = isMiddle ? numMiddle : numAround;
      for (let component = 0; component < count; component++) taps.push({ component, y, x });
    }
  }
  return taps;
}

// The first taps are those around the middle.
function countWide(taps: readonly Tap[]): number {
  return taps.filter(({ y, x }) => y === 0 && x === 0).length;
}

function describeMaps(
  targets: readonly Float32Array[],
  channels: number,
): Pick<LinearLanding, 'deviations' | 'low' | 'high'> {
  const sums = new Float64Array(channels);
  const squares = new Float64Array(channels);
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  let count = 0;
  for (const maps of targets) {
    const area = maps.length / channels;
    count += area;
    for (let i = 0; i < maps.length; i++) {
      const value = maps[i] ?? 0;
      const channel = Math.floor(i / area);
      sums[channel] = (sums[channel] ?? 0) + value;
      squares[channel] = (squares[channel] ?? 0) + value * value;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const variances = sums.map((sum, channel) => (squares[channel] ?? 0) / count - (sum / count) ** 2);
  const mean = variances.reduce((sum, value) => sum + value, 0) / channels;
  // A channel that hardly ever speaks would take small steps only.
  const deviations = Float32Array.from(variances, (value) => Math.sqrt(Math.max(value, 0.01 * mean)) || 1);
  return { deviations, low: low === 0 ? 0 : undefined, high: low === 0 && high === 6 ? 6 : undefined };
}
