import type { PictureEncoder, Runtime } from '@isthmus/core';
import type { SegmentCache } from './cache.js';
import type { ReadPlatformFrame } from './frame.js';
import type { OpenWebSocket } from './socket.js';

/** What Node and browsers do differently. Everything can be replaced by an option but how pictures are read. */
export interface Platform {
  /** For the receiver's logs. */
  name: string;
  createRuntime(): Runtime;
  createCache(): SegmentCache;
  openWebSocket: OpenWebSocket;
  /** What encodes frames that travel as pictures. */
  createPictureEncoder(): PictureEncoder;
  readFrame: ReadPlatformFrame;
}
