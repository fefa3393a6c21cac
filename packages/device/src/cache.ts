/**
 * Keeps segments between sessions, by hash. What it gives is verified by whoever asks; a cache may forget
 * anything at any time, and may fail: then segments are downloaded.
 */
export interface SegmentCache {
  get(sha256: string): Promise<Uint8Array | undefined>;
  put(sha256: string, bytes: Uint8Array): Promise<void>;
  delete(sha256: string): Promise<void>;
}

/** A cache that lasts as long as the object. */
export function createMemoryCache(): SegmentCache {
  const entries = new Map<string, Uint8Array>();
  return {
    get: async (sha256) => entries.get(sha256),
    put: async (sha256, bytes) => {
      entries.set(sha256, bytes);
    },
    delete: async (sha256) => {
      entries.delete(sha256);
    },
  };
}
