import { expect, test } from 'vitest';
import { createEmitter } from './events.js';

test('listeners hear their own events until they are removed, each registration by itself', () => {
  const events = createEmitter<{ a: number; b: string }>();
  const heard: unknown[] = [];
  const listener = (value: number): void => void heard.push(value);
  const first = events.on('a', listener);
  const second = events.on('a', listener);
  events.on('b', (value) => heard.push(value));
  events.emit('a', 1);
  first();
  events.emit('a', 2);
  second();
  events.emit('a', 3);
  events.emit('b', 'x');
  expect(heard).toEqual([1, 1, 2, 'x']);
});
