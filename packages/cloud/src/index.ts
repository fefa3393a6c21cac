export type { Auth, AuthContext } from './auth.js';
export { type BundleSource, folderBundle, memoryBundle } from './bundle-store.js';
export type { ReceiverStats } from './metrics.js';
export type { ReceiverLimits, ReceiverOptions } from './options.js';
export { createReceiver, type Receiver } from './receiver.js';
export type { WebServer } from './server.js';
