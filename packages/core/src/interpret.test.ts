import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { float32ToFloat16 } from './float16.js';
import { describeGeometry } from './geometry.js';
import { type Detection, type Interpretation, interpret } from './interpret.js';
import type { Task } from './manifest.js';
import { createTensor, type NamedTensors } from './tensor.js';

const floats = (shape: number[], values: readonly number[]): NamedTensors => ({
  out: createTensor('float32', shape, Float32Array.from(values)),
});

function classesOf(result: Interpretation) {
  if (result.kind !== 'classification') throw new Error(`not classes: ${result.kind}`);
  return result.classes;
}

function boxesOf(result: Interpretation): Detection[] {
  if (result.kind !== 'detection') throw new Error(`not boxes: ${result.kind}`);
  return result.boxes;
}

describe('classification', () => {
  const labels = ['ant', 'bee', 'cat'];
  const task = { kind: 'classification', output: 'out', activation: 'none', labels } as const;
  const logits = { ...task, activation: 'softmax' } as Task;
  const given = { ...task, labels: [...labels] } as Task;

  it('orders probabilities, best first', () => {
    const outputs = floats([1, 3], [0.25, 0.5, 0.25]);
    expect(classesOf(interpret(given, outputs, { topK: 2 }))).toEqual([
      { index: 1, label: 'bee', score: 0.5 },
      { index: 0, label: 'ant', score: 0.25 },
    ]);
  });

  it('gives the best of any scores, the first of equal ones first', () => {
    const anyScores = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 40 });
    fc.assert(
      fc.property(anyScores, fc.nat(8), (scores, topK) => {
        const unlabelled = { ...task, labels: [] } as Task;
        const found = classesOf(interpret(unlabelled, floats([1, scores.length], scores), { topK }));
        const sorted = scores.map((score, index) => ({ index, label: '', score }));
        expect(found).toEqual(sorted.sort((a, b) => b.score - a.score).slice(0, topK));
      }),
    );
  });

  it('takes the sizes of 1 that pooling leaves, and float16', () => {
    const data = float32ToFloat16(Float32Array.of(0, 0, 1));
    const outputs = { out: createTensor('float16', [1, 3, 1, 1], data) };
    expect(classesOf(interpret(given, outputs))[0]).toEqual({ index: 2, label: 'cat', score: 1 });
  });

  it('turns logits into probabilities, however large', () => {
    const [first, second] = classesOf(interpret(logits, floats([1, 3], [1000, 1000, -1000])));
    expect([first!.score, second!.score]).toEqual([0.5, 0.5]);
    fc.assert(
      fc.property(
        fc.array(fc.float({ noDefaultInfinity: true, noNaN: true }), { minLength: 3, maxLength: 3 }),
        (values) => {
          const classes = classesOf(interpret(logits, floats([1, 3], values)));
          expect(classes.reduce((sum, { score }) => sum + score, 0)).toBeCloseTo(1, 9);
          const largest = values.indexOf(Math.max(...values));
          expect(classes.find(({ index }) => index === largest)!.score).toBe(classes[0]!.score);
        },
      ),
    );
  });

  it('refuses outputs that are not one score per label', () => {
    const wrongShape = expect.objectContaining({ code: 'tensor/shape-mismatch' });
    for (const shape of [
      [1, 4],
      [2, 3],
      [3, 1],
      [1, 3, 2],
    ]) {
      const size = shape.reduce((a, b) => a * b);
      expect(() => interpret(given, floats(shape, new Array(size).fill(0)))).toThrowError(wrongShape);
    }
    expect(() => interpret(given, {})).toThrowError(wrongShape);
    const integers = { out: createTensor('int32', [1, 3], new Int32Array(3)) };
    expect(() => interpret(given, integers)).toThrowError(
      expect.objectContaining({ code: 'tensor/type-mismatch' }),
    );
    expect(() => interpret(given, floats([1, 3], [0, Number.NaN, 0]))).toThrowError(
      expect.objectContaining({ code: 'tensor/not-finite' }),
    );
  });
});

describe('yolo-v2 detection', () => {
  const [rows, columns] = [2, 4];
  const task: Task = {
    kind: 'detection',
    output: 'out',
    decoder: 'yolo-v2',
    anchors: [
      [1, 1],
      [2, 1],
    ],
    scoreThreshold: 0.5,
    iouThreshold: 0.5,
    labels: ['cat', 'dog'],
  };

  interface Object {
    anchor: number;
    row: number;
    column: number;
    /** x, y, width, height, objectness, cat, dog */
    logits: number[];
  }

  // An output in which nothing is seen but these objects.
  function scene(objects: readonly Object[]): NamedTensors {
    const values = new Array(2 * 7 * rows * columns).fill(0);
    const put = (anchor: number, channel: number, cell: number, value: number) => {
      values[(anchor * 7 + channel) * rows * columns + cell] = value;
    };
    for (let anchor = 0; anchor < 2; anchor++) {
      for (let cell = 0; cell < rows * columns; cell++) put(anchor, 4, cell, -20);
    }
    for (const { anchor, row, column, logits } of objects) {
      logits.forEach((value, channel) => {
        put(anchor, channel, row * columns + column, value);
      });
    }
    return floats([1, 14, rows, columns], values);
  }

  const sure = 20;

  it('decodes a box by the paper', () => {
    const outputs = scene([
      { anchor: 1, row: 0, column: 1, logits: [0, 0, 0, Math.log(0.5), sure, 0, sure] },
    ]);
    const [box, ...others] = boxesOf(interpret(task, outputs));
    expect(others).toEqual([]);
    expect(box).toMatchObject({ index: 1, label: 'dog' });
    // Centre (1.5, 0.5) of 4 × 2 cells, size 2 × 0.5 cells.
    expect(box!.x).toBeCloseTo(0.5 / 4, 6);
    expect(box!.y).toBeCloseTo(0.25 / 2, 6);
    expect(box!.width).toBeCloseTo(2 / 4, 6);
    expect(box!.height).toBeCloseTo(0.5 / 2, 6);
    expect(box!.score).toBeCloseTo(1, 6);
  });

  it('multiplies objectness and class, and drops what is below the threshold', () => {
    const seen = (objectness: number, dog: number) =>
      boxesOf(
        interpret(task, scene([{ anchor: 0, row: 1, column: 1, logits: [0, 0, 0, 0, objectness, 0, dog] }])),
      );
    expect(seen(Math.log(4), sure)[0]!.score).toBeCloseTo(0.8, 6);
    expect(seen(Math.log(4), Math.log(4))[0]!.score).toBeCloseTo(0.64, 6);
    expect(seen(Math.log(4), Math.log(1.5))).toEqual([]);
    expect(seen(0.01, sure)).toHaveLength(1);
    expect(seen(-0.01, sure)).toEqual([]);
  });

  it('keeps the best of overlapping boxes of a class, and boxes of other classes', () => {
    const at = (anchor: number, objectness: number, cat: number): Object => ({
      anchor,
      row: 1,
      column: 2,
      logits: [0, 0, anchor === 1 ? -Math.log(2) : 0, 0, objectness, cat, -cat],
    });
    const scores = (objects: Object[]) =>
      boxesOf(interpret(task, scene(objects))).map(({ label, score }) => [label, Number(score.toFixed(3))]);
    expect(scores([at(0, Math.log(3), sure), at(1, Math.log(9), sure)])).toEqual([['cat', 0.9]]);
    expect(scores([at(0, Math.log(3), sure), at(1, Math.log(9), -sure)])).toEqual([
      ['dog', 0.9],
      ['cat', 0.75],
    ]);
    const apart = [at(0, Math.log(3), sure), { ...at(1, Math.log(9), sure), column: 0 }];
    expect(scores(apart)).toEqual([
      ['cat', 0.9],
      ['cat', 0.75],
    ]);
    expect(boxesOf(interpret(task, scene(apart), { maxBoxes: 1 }))).toHaveLength(1);
  });

  it('puts boxes into the picture, through crop and padding', () => {
    const outputs = scene([{ anchor: 0, row: 1, column: 2, logits: [0, 0, 0, 0, sure, sure, 0] }]);
    const model = { width: 128, height: 64 };
    // In the model's input: centre (80, 48), 32 × 32.
    const boxIn = (width: number, height: number, fit: 'cover' | 'contain') => {
      const geometry = describeGeometry(width, height, { ...model, fit });
      const { x, y, width: w, height: h } = boxesOf(interpret(task, outputs, { geometry }))[0]!;
      return [x, y, w, h].map((value) => Number(value.toFixed(3)));
    };
    expect(boxIn(256, 128, 'cover')).toEqual([128, 64, 64, 64]);
    expect(boxIn(512, 128, 'cover')).toEqual([256, 64, 64, 64]);
    // 64 × 64 in the middle of 128 × 64: 32 columns of padding on the left.
    expect(boxIn(64, 64, 'contain')).toEqual([32, 32, 32, 32]);
  });

  it('stays within the picture, whatever the logits are', () => {
    const logit = fc.float({ min: -1e6, max: 1e6, noNaN: true });
    fc.assert(
      fc.property(
        fc.array(fc.array(logit, { minLength: 7, maxLength: 7 }), { minLength: 16, maxLength: 16 }),
        (cells) => {
          const objects = cells.map((logits, i) => ({
            anchor: i >> 3,
            row: (i >> 2) & 1,
            column: i & 3,
            logits,
          }));
          const geometry = describeGeometry(100, 70, { width: 128, height: 64, fit: 'contain' });
          for (const box of boxesOf(interpret(task, scene(objects), { geometry }))) {
            expect(box.score).toBeGreaterThanOrEqual(0.5);
            expect(Math.min(box.x, box.y)).toBeGreaterThanOrEqual(0);
            expect(Math.min(box.width, box.height)).toBeGreaterThan(0);
            expect(box.x + box.width).toBeLessThanOrEqual(100 + 1e-9);
            expect(box.y + box.height).toBeLessThanOrEqual(70 + 1e-9);
          }
        },
      ),
    );
  });

  it('refuses a grid of another shape', () => {
    for (const shape of [
      [1, 13, 2, 4],
      [2, 14, 2, 4],
      [14, 2, 4],
    ]) {
      const outputs = floats(shape, new Array(shape.reduce((a, b) => a * b)).fill(0));
      expect(() => interpret(task, outputs)).toThrowError(
        expect.objectContaining({ code: 'tensor/shape-mismatch' }),
      );
    }
  });
});

it('hands on the tensors of a model whose task is not known', () => {
  const outputs = floats([2], [1, 2]);
  expect(interpret({ kind: 'tensor' }, outputs)).toEqual({ kind: 'tensor', tensors: outputs });
});
