import { expect, test } from 'vitest';
import { receiverUrls } from './http.js';

test.each([
  ['wss://edge.example.com', 'wss://edge.example.com/', 'https://edge.example.com/'],
  ['ws://localhost:8787/', 'ws://localhost:8787/', 'http://localhost:8787/'],
  ['https://example.com/isthmus', 'wss://example.com/isthmus', 'https://example.com/isthmus/'],
  ['http://example.com/a/b/#x', 'ws://example.com/a/b/', 'http://example.com/a/b/'],
])('%s is the socket %s and the resources %s', (url, socketUrl, baseUrl) => {
  expect(receiverUrls(url)).toEqual({ socketUrl, baseUrl });
});

test.each(['', 'localhost:8787', '//x', 'file:///etc'])('%j is not an address', (url) => {
  expect(() => receiverUrls(url)).toThrowError(expect.objectContaining({ code: 'usage/invalid' }));
});
