export { coderTables } from './coder-tables.js';
export { PlaneDecoder } from './plane-decoder.js';
export { PlaneEncoder, type SymbolSequence } from './plane-encoder.js';
