import { createMemoryCache, type SegmentCache } from './cache.js';

// Cache entries are named by URL; this one is never fetched.
const urlOf = (sha256: string): string => `https://segments.isthmus.invalid/${sha256}`;

/**
 * Keeps segments in the browser's Cache API, for as long as the browser keeps the site's data; in memory where
 * there is none, as on a page without https.
 *
 * @param name Of the cache, shared by all pages of an origin. @default 'isthmus-segments'
 */
export function createPageCache(name: string = 'isthmus-segments'): SegmentCache {
  if (globalThis.caches === undefined) return createMemoryCache();
  const open = (): Promise<Cache> => globalThis.caches.open(name);
  return {
    async get(sha256) {
      const response = await (await open()).match(urlOf(sha256));
      return response === undefined ? undefined : new Uint8Array(await response.arrayBuffer());
    },
    async put(sha256, bytes) {
      await (await open()).put(urlOf(sha256), new Response(bytes as Uint8Array<ArrayBuffer>));
    },
    async delete(sha256) {
      await (await open()).delete(urlOf(sha256));
    },
  };
}
