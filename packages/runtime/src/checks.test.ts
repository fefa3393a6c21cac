import { createTensor, elementCount, type NamedTensors, type TensorType, tensorTypes } from '@isthmus/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkFeeds, checkFetches, toNamedTensors } from './checks.js';
import type { ValueInfo } from './ort-values.js';

const makeData: Record<TensorType, (count: number) => never> = {
  float32: (count) => new Float32Array(count) as never,
  float16: (count) => new Uint16Array(count) as never,
  int64: (count) => new BigInt64Array(count) as never,
  int32: (count) => new Int32Array(count) as never,
  int8: (count) => new Int8Array(count) as never,
  uint8: (count) => new Uint8Array(count) as never,
  bool: (count) => new Uint8Array(count) as never,
};

const zeros = (type: TensorType, shape: readonly number[]) =>
  createTensor(type, shape, makeData[type](elementCount(shape)));

// An input as declared, where null is a free size, and sizes that fit it.
const input = fc
  .record({
    type: fc.constantFrom(...tensorTypes),
    sizes: fc.array(fc.record({ size: fc.integer({ min: 0, max: 5 }), free: fc.boolean() }), {
      minLength: 1,
      maxLength: 4,
    }),
  })
  .map(({ type, sizes }) => ({
    info: { name: 'x', type, shape: sizes.map(({ size, free }) => (free ? 'n' : size)) } as ValueInfo,
    type,
    shape: sizes.map(({ size }) => size),
  }));

describe('checking feeds', () => {
  it('lets pass what fits, and names what does not', () => {
    fc.assert(
      fc.property(input, input, ({ info, type, shape }, other) => {
        expect(() => checkFeeds([info], { x: zeros(type, shape) })).not.toThrow();
        const fits =
          other.type === type &&
          other.shape.length === shape.length &&
          info.shape!.every((size, axis) => size === 'n' || size === other.shape[axis]);
        const check = () => checkFeeds([info], { x: zeros(other.type, other.shape) });
        if (fits) expect(check).not.toThrow();
        else expect(check).toThrowError(expect.objectContaining({ details: { input: 'x' } }));
      }),
    );
  });

  it('leaves an undeclared shape to the engine', () => {
    const open: ValueInfo = { name: 'x', type: 'float32', shape: [] };
    expect(() => checkFeeds([open], { x: zeros('float32', [2, 3]) })).not.toThrow();
  });

  it('refuses anything that is not a tensor', () => {
    const info: ValueInfo = { name: 'x', type: 'float32', shape: ['n'] };
    for (const value of [null, 'text', {}, { type: 'float64', shape: [1], data: [1] }]) {
      expect(() => checkFeeds([info], { x: value } as unknown as NamedTensors)).toThrowError(
        expect.objectContaining({ code: 'runtime/run-failed' }),
      );
    }
  });
});

it('fetches all outputs unless told', () => {
  expect(checkFetches(['a', 'b'], undefined)).toEqual(['a', 'b']);
  expect(checkFetches(['a', 'b'], ['b'])).toEqual(['b']);
  expect(() => checkFetches(['a', 'b'], ['c'])).toThrowError(
    expect.objectContaining({ code: 'runtime/run-failed', details: { output: 'c' } }),
  );
});

describe('taking outputs', () => {
  it('keeps float16 as bit patterns, whatever array the engine used', () => {
    // Stands where an engine with Float16Array gives one: another view of the same four bytes.
    const data = new Int8Array(Uint16Array.of(0x3c00, 0xc000).buffer);
    expect(toNamedTensors({ y: { type: 'float16', dims: [2], data } })).toEqual({
      y: { type: 'float16', shape: [2], data: Uint16Array.of(0x3c00, 0xc000) },
    });
  });

  it('refuses types that cannot cross a cut', () => {
    expect(() => toNamedTensors({ y: { type: 'string', dims: [1], data: ['text'] } })).toThrowError(
      expect.objectContaining({ code: 'runtime/run-failed', details: { output: 'y', type: 'string' } }),
    );
  });
});
