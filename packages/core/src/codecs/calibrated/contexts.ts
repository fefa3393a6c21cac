import {
  binOf,
  type CalibratedTables,
  type CalibratedTensor,
  groupOf,
  maxMagnitude,
  maxSigned,
  numFeatures,
  one,
  priorOf,
} from './model.js';

const border = 2;
// An engine folds this into loops; what is imported it would read, check, and divide by, at every use.
const unit = one;
/** Bounds of what is known before a plane starts, so that sums stay within 32 bits. */
const mostBase = 2 ** 28;

/**
 * What the values decoded so far say about the next: how large it will be, and of which sign. Integers and sums of
 * products of integers in doubles only, so that every machine comes to the same.
 *
 * Planes come component after component, values row after row. Around each plane lies a border of zeros. The
 * magnitude of a value is expected to be a weighted sum of: its component's prior; the magnitudes of its neighbours
 * to the left and above; how active this position, and its surroundings, were in the components before, compared
 * with what was expected of those. (Prediction of magnitudes from causal neighbours as in ECECOW, Wu,
 * doi 10.1109/83.855427.)
 */
export class PlaneContexts {
  readonly width: number;
  readonly height: number;
  readonly stride: number;
  /** Index of the first value within arrays that have a border. */
  readonly first: number;
  /** Values of the plane under way, as far as signs are predicted from them: see {@link put}. */
  readonly signed: Int32Array;
  /** Magnitudes of their differences from the prediction, up to `maxMagnitude`. */
  readonly magnitudes: Int32Array;
  /**
   * By column of a row: what is expected of a magnitude, and predicted of a value, before anything of that row is
   * known. See {@link startRow}.
   */
  readonly expectedAbove: Int32Array;
  readonly predictedAbove: Int32Array;
  /** What the magnitude to the left, and the one left of that, add to the expected one. */
  weightLeft = 0;
  weightFar = 0;
  /** What the value to the left adds to the predicted one. */
  follow = 0;
  /** Whether anything is predicted of the values of this component. */
  isPredicted = false;
  readonly #tables: CalibratedTables;
  readonly #tensor: CalibratedTensor;
  /** What is known before the plane starts. */
  readonly #base: Int32Array;
  /** Exponential averages of magnitudes over components, at every position: of the last few, and of many. */
  readonly #recent: Int32Array;
  readonly #long: Int32Array;
  /** Averages of priors in the same way: what the former are to be compared with. */
  #recentPrior = 0;
  #longPrior = 0;
  #prior = 0;
  #up = 0;
  #corner = 0;
  #weightUp = 0;
  #weightDiagonal = 0;
  #levelScale = 0;

  constructor(tables: CalibratedTables, tensor: CalibratedTensor) {
    this.#tables = tables;
    this.#tensor = tensor;
    this.width = tensor.width;
    this.height = tensor.height;
    this.stride = tensor.width + 2 * border;
    this.first = border * this.stride + border;
    const size = (tensor.height + 2 * border) * this.stride;
    this.signed = new Int32Array(size);
    this.magnitudes = new Int32Array(size);
    this.expectedAbove = new Int32Array(tensor.width);
    this.predictedAbove = new Int32Array(tensor.width);
    this.#base = new Int32Array(size);
    this.#recent = new Int32Array(size);
    this.#long = new Int32Array(size);
  }

  /** Call it before the first plane. */
  begin(levelScale: number): void {
    this.#levelScale = levelScale;
    this.#recent.fill(0);
    this.#long.fill(0);
    this.#recentPrior = 0;
    this.#longPrior = 0;
  }

  /** The prior of a component, in 4096ths. */
  prior(component: number): number {
    return priorOf(this.#tables, this.#tensor.scales[component]!, this.#levelScale);
  }

  /** Starts a plane whose values are coded. */
  start(component: number): void {
    const prior = this.prior(component);
    const weights = this.#tables.weights;
    const at = groupOf(prior) * numFeatures;
    this.#prior = prior;
    const left = this.#tensor.left[component]!;
    const up = this.#tensor.up[component]!;
    this.follow = 64 * left;
    this.#up = 64 * up;
    this.#corner = left * up;
    this.isPredicted = left !== 0 || up !== 0;
    this.weightLeft = weights[at + 1]!;
    this.#weightUp = weights[at + 2]!;
    this.#weightDiagonal = weights[at + 3]!;
    this.weightFar = weights[at + 4]!;
    const ofPrior = prior * weights[at]!;
    const ofRecent = this.#ratio(this.#recentPrior) * weights[at + 5]!;
    const ofAround = this.#ratio(this.#recentPrior) * weights[at + 6]!;
    const ofLong = this.#ratio(this.#longPrior) * weights[at + 7]!;
    const { stride, width, height } = this;
    const [recent, long, base] = [this.#recent, this.#long, this.#base];
    for (let y = 0; y < height; y++) {
      let i = this.first + y * stride;
      // Sums of three in the columns to the left, in, and to the right of this position.
      let before = recent[i - stride - 1]! + recent[i - 1]! + recent[i + stride - 1]!;
      let here = recent[i - stride]! + recent[i]! + recent[i + stride]!;
      for (const end = i + width; i < end; i++) {
        const after = recent[i - stride + 1]! + recent[i + 1]! + recent[i + stride + 1]!;
        const now = recent[i]!;
        const around = (before + here + after - now) / 8;
        const sum = (ofPrior + (now * ofRecent + around * ofAround + long[i]! * ofLong) / unit) / unit;
        base[i] = sum > mostBase ? mostBase : sum < -mostBase ? -mostBase : Math.floor(sum);
        before = here;
        here = after;
      }
    }
  }

  /**
   * Works out {@link expectedAbove} and {@link predictedAbove} of a row, whose rows above are known: what can be done
   * for all columns at once need not wait for one value after the other.
   */
  startRow(y: number): void {
    const { magnitudes, signed, expectedAbove, predictedAbove, stride, width, weightFar } = this;
    const base = this.#base;
    const weightUp = this.#weightUp;
    const weightDiagonal = this.#weightDiagonal;
    const up = this.#up;
    const corner = this.#corner;
    let i = this.first + y * stride;
    let above = i - stride;
    let before = magnitudes[above - 1]!;
    let here = magnitudes[above]!;
    for (let x = 0; x < width; x++, i++, above++) {
      const after = magnitudes[above + 1]!;
      // At most 2^28 and six times 2^25: the sum fits 32 bits.
      expectedAbove[x] =
        base[i]! +
        Math.imul(weightUp, here) +
        Math.imul(weightDiagonal, before + after) +
        Math.imul(weightFar, magnitudes[above - stride]!);
      before = here;
      here = after;
    }
    if (!this.isPredicted) return;
    above -= width;
    for (let x = 0; x < width; x++, above++) {
      predictedAbove[x] = Math.imul(up, signed[above]!) - Math.imul(corner, signed[above - 1]!);
    }
  }

  #ratio(prior: number): number {
    return Math.min(65_536, Math.floor((this.#prior * one) / (prior + 1)));
  }

  /** The bin of the expected magnitude at index `i` of a plane with a border. */
  bin(i: number): number {
    const magnitudes = this.magnitudes;
    const above = i - this.stride;
    // At most 2^28 and six times 2^25: the sum fits 32 bits.
    return binOf(
      (this.#base[i]! +
        Math.imul(this.weightLeft, magnitudes[i - 1]!) +
        Math.imul(this.#weightUp, magnitudes[above]!) +
        Math.imul(this.#weightDiagonal, magnitudes[above - 1]! + magnitudes[above + 1]!) +
        Math.imul(this.weightFar, magnitudes[i - 2]! + magnitudes[above - this.stride]!)) |
        0,
    );
  }

  /** The value as predicted from its neighbours, in 4096ths. */
  prediction(i: number): number {
    const signed = this.signed;
    const above = i - this.stride;
    return (
      (Math.imul(this.follow, signed[i - 1]!) +
        Math.imul(this.#up, signed[above]!) -
        Math.imul(this.#corner, signed[above - 1]!)) |
      0
    );
  }

  /** Takes note of a value and of its difference from the prediction. */
  put(i: number, value: number, residual: number): void {
    this.signed[i] = Math.max(-maxSigned, Math.min(maxSigned, value));
    const magnitude = residual < 0 ? -residual : residual;
    this.magnitudes[i] = Math.min(magnitude, maxMagnitude);
  }

  /** Ends a plane: one that was started, or one without a value other than zero. */
  finish(component: number, isCoded: boolean): void {
    const [recent, long, magnitudes] = [this.#recent, this.#long, this.magnitudes];
    const prior = this.prior(component);
    this.#recentPrior += (prior - this.#recentPrior) >> 3;
    this.#longPrior += (prior - this.#longPrior) >> 6;
    for (let y = 0; y < this.height; y++) {
      let i = this.first + y * this.stride;
      for (const end = i + this.width; i < end; i++) {
        const magnitude = isCoded ? magnitudes[i]! * unit : 0;
        recent[i] = recent[i]! + ((magnitude - recent[i]!) >> 3);
        long[i] = long[i]! + ((magnitude - long[i]!) >> 6);
      }
    }
  }

  /** For fitting the weights: what they are multiplied with at `i`, in units of one. */
  features(i: number, out: Float64Array): void {
    const [recent, magnitudes] = [this.#recent, this.magnitudes];
    const above = i - this.stride;
    const below = i + this.stride;
    const around =
      recent[above - 1]! +
      recent[above]! +
      recent[above + 1]! +
      recent[i - 1]! +
      recent[i + 1]! +
      recent[below - 1]! +
      recent[below]! +
      recent[below + 1]!;
    out[0] = this.#prior / one;
    out[1] = magnitudes[i - 1]!;
    out[2] = magnitudes[above]!;
    out[3] = magnitudes[above - 1]! + magnitudes[above + 1]!;
    out[4] = magnitudes[i - 2]! + magnitudes[above - this.stride]!;
    const ratio = this.#ratio(this.#recentPrior) / one;
    out[5] = (recent[i]! * ratio) / one;
    out[6] = (around * ratio) / (8 * one);
    out[7] = (this.#long[i]! * this.#ratio(this.#longPrior)) / (one * one);
  }
}
