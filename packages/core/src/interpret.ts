import { IsthmusError } from './errors.js';
import { float16ToFloat32 } from './float16.js';
import type { FrameGeometry } from './geometry.js';
import type { Task } from './manifest.js';
import type { NamedTensors } from './tensor.js';

export interface ScoredClass {
  index: number;
  /** The manifest's label; empty if it has none for this index. */
  label: string;
  /** Probability, 0…1. */
  score: number;
}

/** `x`, `y` is the top left corner. In pixels of the image, or fractions of the model's input without geometry. */
export interface Detection extends ScoredClass {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** What a model's outputs say, by the kind of the manifest's task. */
export type Interpretation =
  | { kind: 'classification'; classes: ScoredClass[] }
  | { kind: 'detection'; boxes: Detection[] }
  | { kind: 'tensor'; tensors: NamedTensors };

export interface InterpretOptions {
  /** How many classes to give, best first. @default 5 */
  topK?: number;
  /** How many boxes to give, best first. @default 100 */
  maxBoxes?: number;
  /** Where the picture lies in the model's input: puts boxes into the picture's pixels. */
  geometry?: FrameGeometry;
}

/**
 * Reads the outputs of a single frame.
 *
 * - classification: the output holds one value per label, [1, labels] or with sizes of 1 around it.
 * - detection, `yolo-v2` (arXiv 1612.08242, section 2): [1, anchors · (5 + labels), rows, columns], for each anchor
 *   x, y, width, height, objectness and class logits. A box gets its best class; boxes below `scoreThreshold`
 *   are dropped, and those that overlap a better one of their class by more than `iouThreshold`. Boxes are
 *   clipped to the picture.
 * - tensor: the outputs as they are.
 *
 * @param outputs float32 or float16.
 * @throws IsthmusError `tensor/shape-mismatch` if the output is missing or not of that shape,
 * `tensor/type-mismatch`, `tensor/not-finite`.
 *
 * @example
 * ```ts
 * const result = interpret(manifest.task, outputs, { topK: 3 });
 * if (result.kind === 'classification') console.log(result.classes[0]!.label);
 * ```
 */
export function interpret(task: Task, outputs: NamedTensors, options: InterpretOptions = {}): Interpretation {
  switch (task.kind) {
    case 'classification':
      return { kind: 'classification', classes: classify(task, outputs, options.topK ?? 5) };
    case 'detection':
      return { kind: 'detection', boxes: detect(task, outputs, options) };
    case 'tensor':
      return { kind: 'tensor', tensors: outputs };
  }
}

type Classification = Extract<Task, { kind: 'classification' }>;
type DetectionTask = Extract<Task, { kind: 'detection' }>;

function classify(task: Classification, outputs: NamedTensors, topK: number): ScoredClass[] {
  const { shape, values } = readOutput(outputs, task.output);
  // One axis may be long; the batch and what pooling left behind are 1.
  const isVector = shape.filter((size) => size !== 1).length <= 1 && (shape.length < 2 || shape[0] === 1);
  if (!isVector || (task.labels.length > 0 && values.length !== task.labels.length)) {
    throw shapeError(
      task.output,
      shape,
      task.labels.length > 0 ? `[1, ${task.labels.length}]` : '[1, classes]',
    );
  }
  const scores = task.activation === 'softmax' ? softmax(values) : values;
  return bestIndices(scores, topK).map((index) => ({
    index,
    label: task.labels[index] ?? '',
    score: scores[index]!,
  }));
}

// Of equal scores the first; in one pass, since sorting a thousand classes takes longer than sending them.
function bestIndices(scores: ArrayLike<number>, count: number): number[] {
  const best: number[] = [];
  for (let index = 0; index < scores.length; index++) {
    if (best.length >= count && !(scores[index]! > scores[best.at(-1)!]!)) continue;
    let place = best.length;
    while (place > 0 && scores[index]! > scores[best[place - 1]!]!) place--;
    best.splice(place, 0, index);
    if (best.length > count) best.pop();
  }
  return best;
}

function detect(task: DetectionTask, outputs: NamedTensors, options: InterpretOptions): Detection[] {
  const { shape, values } = readOutput(outputs, task.output);
  const [batch, channels, rows, columns] = shape;
  const boxChannels = 5 + task.labels.length;
  if (shape.length !== 4 || batch !== 1 || channels !== task.anchors.length * boxChannels) {
    const expected = `[1, ${task.anchors.length * boxChannels}, rows, columns]`;
    throw shapeError(task.output, shape, expected);
  }
  const cells = rows! * columns!;
  const candidates: Detection[] = [];
  const logits = new Float64Array(task.labels.length);
  task.anchors.forEach(([anchorWidth, anchorHeight], anchor) => {
    for (let cell = 0; cell < cells; cell++) {
      const at = (channel: number): number => values[(anchor * boxChannels + channel) * cells + cell]!;
      const objectness = sigmoid(at(4));
      // No class can be more probable than the object itself.
      if (objectness < task.scoreThreshold) continue;
      for (let index = 0; index < logits.length; index++) logits[index] = at(5 + index);
      const best = bestOf(softmax(logits));
      const score = objectness * best.value;
      if (best.index < 0 || score < task.scoreThreshold) continue;
      const centerX = (sigmoid(at(0)) + (cell % columns!)) / columns!;
      const centerY = (sigmoid(at(1)) + Math.floor(cell / columns!)) / rows!;
      const width = (Math.exp(at(2)) * anchorWidth) / columns!;
      const height = (Math.exp(at(3)) * anchorHeight) / rows!;
      const corners = [centerX - width / 2, centerY - height / 2, centerX + width / 2, centerY + height / 2];
      const box = placeBox(corners as Corners, options.geometry);
      if (box.width > 0 && box.height > 0) {
        candidates.push({ index: best.index, label: task.labels[best.index]!, score, ...box });
      }
    }
  });
  return suppress(candidates, task.iouThreshold, options.maxBoxes ?? 100);
}

type Corners = [left: number, top: number, right: number, bottom: number];
type Box = Pick<Detection, 'x' | 'y' | 'width' | 'height'>;

// From fractions of the model's input into the picture, clipped: an overflowing exp gives a box as large as that.
function placeBox([left, top, right, bottom]: Corners, geometry: FrameGeometry | undefined): Box {
  const clip = (value: number, limit: number): number => Math.min(Math.max(value, 0), limit);
  const toX = (value: number): number =>
    geometry === undefined
      ? clip(value, 1)
      : clip(value * geometry.modelWidth * geometry.scaleX + geometry.offsetX, geometry.imageWidth);
  const toY = (value: number): number =>
    geometry === undefined
      ? clip(value, 1)
      : clip(value * geometry.modelHeight * geometry.scaleY + geometry.offsetY, geometry.imageHeight);
  const [x, y] = [toX(left), toY(top)];
  return { x, y, width: toX(right) - x, height: toY(bottom) - y };
}

// Non-maximum suppression: the best box first, and away with its class's boxes that are mostly the same.
function suppress(candidates: Detection[], iouThreshold: number, maxBoxes: number): Detection[] {
  const kept: Detection[] = [];
  for (const candidate of candidates.sort((a, b) => b.score - a.score)) {
    if (kept.length >= maxBoxes) break;
    const repeated = kept.some((box) => box.index === candidate.index && iou(box, candidate) > iouThreshold);
    if (!repeated) kept.push(candidate);
  }
  return kept;
}

function iou(a: Box, b: Box): number {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  const both = Math.max(0, width) * Math.max(0, height);
  return both / (a.width * a.height + b.width * b.height - both);
}

function sigmoid(value: number): number {
  return 1 / (1 + Math.exp(-value));
}

// Less the largest logit, so that no exponential overflows.
function softmax(logits: ArrayLike<number>): Float64Array {
  const largest = bestOf(logits).value;
  const scores = Float64Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = scores.reduce((total, score) => total + score, 0);
  return scores.map((score) => score / sum);
}

function bestOf(values: ArrayLike<number>): { index: number; value: number } {
  let best = { index: -1, value: -Infinity };
  for (let index = 0; index < values.length; index++) {
    if (values[index]! > best.value) best = { index, value: values[index]! };
  }
  return best;
}

function readOutput(outputs: NamedTensors, name: string): { shape: readonly number[]; values: Float32Array } {
  const tensor = Object.hasOwn(outputs, name) ? outputs[name] : undefined;
  if (tensor === undefined) {
    throw new IsthmusError(
      'tensor/shape-mismatch',
      `The output "${name}" that the task reads is not there; there are: ${Object.keys(outputs).join(', ')}.`,
      { details: { output: name } },
    );
  }
  if (tensor.type !== 'float32' && tensor.type !== 'float16') {
    throw new IsthmusError(
      'tensor/type-mismatch',
      `The output "${name}" is ${tensor.type}; scores and boxes are float32 or float16.`,
      { details: { output: name, type: tensor.type } },
    );
  }
  const values =
    tensor.type === 'float16' ? float16ToFloat32(tensor.data as Uint16Array) : (tensor.data as Float32Array);
  if (!values.every(Number.isFinite)) {
    throw new IsthmusError('tensor/not-finite', `The output "${name}" holds values that are not finite.`, {
      details: { output: name },
    });
  }
  return { shape: tensor.shape, values };
}

function shapeError(output: string, shape: readonly number[], expected: string): IsthmusError {
  return new IsthmusError(
    'tensor/shape-mismatch',
    `The output "${output}" is [${shape.join(', ')}]; the task needs ${expected} for one frame.`,
    { details: { output, shape } },
  );
}
