export { decodePicture } from './decode-picture.js';
export { createSharpCoder } from './sharp-coder.js';
