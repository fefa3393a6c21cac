import { importTflite } from '@isthmus/graph';
import { fileOf, labelsOf } from './package-files.js';
import type { ModelRecipe } from './recipe.js';
import { tflitePackage } from './tflite-package.js';

const model = 'example/models/yolov2_tiny.tflite';
const labels = 'example/models/yolov2_tiny.txt';
const output = 'output';

/** Tiny YOLOv2 (arXiv 1612.08242), COCO: 80 classes, 5 anchors on a 13 × 13 grid. */
export const tinyYoloV2: ModelRecipe = {
  name: 'tiny-yolo-v2',
  description: 'Tiny YOLOv2 416, COCO detection, 11.2 M parameters',
  licence: 'MIT',
  revision: 1,
  package: tflitePackage,
  files: [model, labels],
  convert: (files) => importTflite(fileOf(files, model)),
  preprocess: {
    width: 416,
    height: 416,
    colorOrder: 'rgb',
    fit: 'contain',
    mean: [0, 0, 0],
    std: [255, 255, 255],
  },
  readTask: (files) => ({
    kind: 'detection',
    output,
    decoder: 'yolo-v2',
    anchors: [
      [0.57273, 0.677385],
      [1.87446, 2.06253],
      [3.33843, 5.47434],
      [7.88282, 3.52778],
      [9.77052, 9.16828],
    ],
    scoreThreshold: 0.3,
    iouThreshold: 0.45,
    labels: labelsOf(files, labels),
  }),
  reference: {
    output,
    shape: [1, 425, 13, 13],
    first8: [-0.22272, -0.265411, 0.059053, 0.27118, 0.00536735, 0.365497, 0.0898284, -0.0377634],
    top5: [
      { index: 34275, value: 14.7554 },
      { index: 34274, value: 14.5187 },
      { index: 34183, value: 13.9992 },
      { index: 34276, value: 13.8987 },
      { index: 34184, value: 13.835 },
    ],
    sum: -5358.43,
    min: -10.9435,
  },
};
