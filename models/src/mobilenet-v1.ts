import { importTflite } from '@isthmus/graph';
import { fileOf, labelsOf } from './package-files.js';
import type { ModelRecipe } from './recipe.js';
import { tflitePackage } from './tflite-package.js';

const model = 'example/models/mobilenet_v1_1.0_224.tflite';
const labels = 'example/models/mobilenet_v1_1.0_224.txt';
const output = 'MobilenetV1/Predictions/Reshape_1';

/** MobileNetV1 1.0 224 (arXiv 1704.04861), ImageNet: 1001 classes, 0 is background. */
export const mobilenetV1: ModelRecipe = {
  name: 'mobilenet-v1',
  description: 'MobileNetV1 1.0 224, ImageNet classification, 4.2 M parameters',
  licence: 'MIT',
  revision: 1,
  package: tflitePackage,
  files: [model, labels],
  convert: (files) => importTflite(fileOf(files, model)),
  preprocess: {
    width: 224,
    height: 224,
    colorOrder: 'rgb',
    fit: 'cover',
    mean: [127.5, 127.5, 127.5],
    std: [127.5, 127.5, 127.5],
  },
  readTask: (files) => ({
    kind: 'classification',
    output,
    activation: 'none',
    labels: labelsOf(files, labels),
  }),
  reference: {
    output,
    shape: [1, 1001],
    first8: [9.96101e-9, 9.63718e-8, 4.94517e-8, 2.03443e-8, 3.49213e-8, 2.4251e-8, 4.17994e-9, 4.72612e-8],
    top5: [
      { index: 906, value: 0.452056 },
      { index: 724, value: 0.308063 },
      { index: 418, value: 0.194586 },
      { index: 550, value: 0.011698 },
      { index: 955, value: 0.00777522 },
    ],
    sum: 1,
    min: 2.34219e-11,
  },
};
