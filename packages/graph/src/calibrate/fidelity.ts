import type { Manifest, NamedTensors } from '@isthmus/core';
import { createOutputMetric, probabilities } from './sensitivity.js';

/** How outputs compare with those of the uncompressed model, on average. */
export interface Fidelity {
  /** Of classes: the share of frames with the same first class; of other tensors: 1 − relative mean square error, at least 0. */
  agreement: number;
  /**
   * Of classes: the mean Kullback–Leibler divergence from the uncompressed model's probabilities, in nats; of other
   * tensors: the mean square error relative to the mean square.
   */
  divergence: number;
}

/** Compares one frame's outputs. */
export function createComparison(
  manifest: Manifest,
): (expected: NamedTensors, actual: NamedTensors) => Fidelity {
  const { task } = manifest;
  if (task.kind === 'classification') {
    const isLogits = task.activation === 'softmax';
    return (expected, actual) => {
      const p = probabilities(expected[task.output]!, isLogits);
      const q = probabilities(actual[task.output]!, isLogits);
      let divergence = 0;
      for (let i = 0; i < p.length; i++) {
        if (p[i]! > 0) divergence += p[i]! * Math.log(p[i]! / Math.max(q[i]!, 1e-9));
      }
      return { agreement: argmax(p) === argmax(q) ? 1 : 0, divergence: Math.max(0, divergence) };
    };
  }
  const metric = createOutputMetric(manifest);
  return (expected, actual) => {
    const a = metric(expected);
    const b = metric(actual);
    let divergence = 0;
    for (let i = 0; i < a.length; i++) divergence += (a[i]! - b[i]!) ** 2;
    return { agreement: Math.max(0, 1 - divergence), divergence };
  };
}

export function meanFidelity(all: readonly Fidelity[]): Fidelity {
  const mean = (of: (one: Fidelity) => number): number =>
    all.reduce((sum, one) => sum + of(one), 0) / all.length;
  return { agreement: mean((one) => one.agreement), divergence: mean((one) => one.divergence) };
}

function argmax(values: Float64Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
