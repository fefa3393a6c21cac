import { batchNorm } from '../batch-norm.js';
import { Draft } from '../draft.js';
import { conv2d } from '../layers.js';
import { softmaxCrossEntropy } from '../losses.js';
import { seededRandom } from './random.js';

/** A net for classification, small, and with batch normalization. */
export interface TestNet {
  draft: Draft;
  /** [batch, classes] */
  logits: string;
  loss: string;
}

interface UnitOptions {
  channels: number;
  kernel: number;
  stride?: number;
  group?: number;
}

function netBuilder(draft: Draft): (x: string, name: string, options: UnitOptions) => string {
  const random = seededRandom(21);
  // Normalized, so without a bias.
  return (x, name, options) =>
    batchNorm(draft, conv2d(draft, x, { name, bias: false, random, ...options }), { name: `${name}.bn` })
      .output;
}

function classified(draft: Draft, x: string, numClasses: number): TestNet {
  const random = seededRandom(22);
  const pooled = draft.node('GlobalAveragePool', [x]);
  const scores = conv2d(draft, pooled, { name: 'head', channels: numClasses, kernel: 1, random });
  const logits = draft.node('Flatten', [scores]);
  const [batch = 1] = draft.shapeOf(logits);
  const targets = draft.input('targets', 'float32', [batch, numClasses]);
  return { draft, logits, loss: softmaxCrossEntropy(draft, logits, targets) };
}

/** As ResNet-20 for small pictures (He et al., 2016), with fewer channels and blocks. */
export function smallResNet(batch: number, size: number): TestNet {
  const draft = new Draft();
  const unit = netBuilder(draft);
  const relu = (x: string): string => draft.node('Relu', [x]);
  let x = draft.input('x', 'float32', [batch, 3, size, size]);
  x = relu(unit(x, 'stem', { channels: 4, kernel: 3 }));
  for (const [stage, channels] of [4, 8, 16].entries()) {
    for (let block = 0; block < 2; block++) {
      const name = `stage${stage}.${block}`;
      const stride = stage > 0 && block === 0 ? 2 : 1;
      const inner = relu(unit(x, `${name}.a`, { channels, kernel: 3, stride }));
      const outer = unit(inner, `${name}.b`, { channels, kernel: 3 });
      const skip = stride === 1 ? x : unit(x, `${name}.skip`, { channels, kernel: 1, stride });
      x = relu(draft.node('Add', [outer, skip]));
    }
  }
  return classified(draft, x, 5);
}

/** As MobileNetV2 (Sandler et al., 2018): inverted residuals of depthwise convolutions, and Relu6. */
export function smallMobileNetV2(batch: number, size: number): TestNet {
  const draft = new Draft();
  const unit = netBuilder(draft);
  const relu6 = (x: string): string => draft.node('Clip', [x, draft.scalar(0), draft.scalar(6)]);
  let x = draft.input('x', 'float32', [batch, 3, size, size]);
  x = relu6(unit(x, 'stem', { channels: 4, kernel: 3, stride: 2 }));
  const blocks = [
    { channels: 4, stride: 1 },
    { channels: 6, stride: 2 },
    { channels: 6, stride: 1 },
    { channels: 8, stride: 2 },
  ];
  for (const [index, { channels, stride }] of blocks.entries()) {
    const [, from = 1] = draft.shapeOf(x);
    const wide = from * 3;
    const name = `block${index}`;
    const expanded = relu6(unit(x, `${name}.expand`, { channels: wide, kernel: 1 }));
    const filtered = relu6(
      unit(expanded, `${name}.depth`, { channels: wide, kernel: 3, stride, group: wide }),
    );
    const projected = unit(filtered, `${name}.project`, { channels, kernel: 1 });
    x = stride === 1 && from === channels ? draft.node('Add', [x, projected]) : projected;
  }
  return classified(draft, relu6(unit(x, 'last', { channels: 16, kernel: 1 })), 5);
}
