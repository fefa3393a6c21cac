import { elementCount, IsthmusError } from '@isthmus/core';
import { readAttributes } from './attributes.js';
import type { Draft, Step } from './draft.js';
import type { CompositeContext } from './gradient-context.js';
import { noGradient } from './no-gradient.js';
import { Ops } from './ops.js';
import { gradientRules } from './rules/index.js';

export interface GradientsOptions {
  /** A tensor of one element. */
  loss: string;
  /** The tensors whose gradients are wanted: parameters, inputs, or values in between. */
  of: readonly string[];
}

/**
 * Adds to the draft the nodes that compute the gradients of a loss, by reverse-mode differentiation (Griewank and
 * Walther, Evaluating Derivatives, 2008): steps are visited from the loss backwards, each turns the gradients of
 * its outputs into those of its inputs. Nothing is added for what no wanted tensor flows into.
 *
 * @returns The gradients' names by tensor; all zero for a tensor that the loss does not depend on.
 *
 * @throws IsthmusError `train/no-gradient` if an operator between the loss and a wanted tensor has no rule, or none
 * for its attributes; `usage/invalid` if the loss is not one float32 number; `model/unsupported` if a shape that is
 * needed depends on data.
 *
 * @example
 * ```ts
 * const gradients = addGradients(draft, { loss, of: draft.parameters.map(({ name }) => name) });
 * ```
 */
export function addGradients(draft: Draft, { loss, of }: GradientsOptions): ReadonlyMap<string, string> {
  if (draft.typeOf(loss) !== 'float32' || elementCount(draft.shapeOf(loss)) !== 1) {
    throw new IsthmusError('usage/invalid', `The loss ${loss} has to be one float32 number.`);
  }
  const ops = new Ops(draft);
  const steps = [...draft.steps];
  const dependent = dependents(draft, steps, of);
  const parts = new Map<string, string[]>();
  if (dependent.has(loss)) parts.set(loss, [ops.expand(draft.scalar(1), draft.shapeOf(loss))]);
  const gradientOf = (name: string): string | undefined => {
    const contributions = parts.get(name);
    if (contributions === undefined) return undefined;
    // Summed once, when all are there.
    if (contributions.length > 1) parts.set(name, [ops.sum(contributions)]);
    return parts.get(name)?.[0];
  };
  for (const step of steps.toReversed()) {
    const gradients = step.outputs.map((name) => (name === '' ? undefined : gradientOf(name)));
    const gradient = gradients.find((name) => name !== undefined);
    if (gradient === undefined || !step.inputs.some((name) => dependent.has(name))) continue;
    const context: CompositeContext = {
      ...{ draft, ops, gradients, gradient },
      inputs: step.inputs,
      outputs: step.outputs,
      wants: (index) => dependent.has(step.inputs[index] ?? ''),
      shape: (index) => draft.shapeOf(step.inputs[index] ?? ''),
    };
    const found = applyRule(step, context);
    step.inputs.forEach((name, index) => {
      const part = found[index];
      if (part === undefined || !dependent.has(name)) return;
      parts.set(name, [...(parts.get(name) ?? []), part]);
    });
  }
  return new Map(of.map((name) => [name, gradientOf(name) ?? ops.zeros(draft.shapeOf(name))]));
}

// The tensors through which the wanted ones act on the loss. Gradients flow through float32 only.
function dependents(draft: Draft, steps: readonly Step[], of: readonly string[]): ReadonlySet<string> {
  const found = new Set(of);
  for (const { inputs, outputs } of steps) {
    if (!inputs.some((name) => found.has(name))) continue;
    for (const name of outputs) {
      if (name !== '' && isFloat(draft.typeOf(name))) found.add(name);
    }
  }
  return found;
}

function isFloat(type: string): boolean {
  return type === 'float32' || type === 'float16';
}

function applyRule(step: Step, context: CompositeContext): readonly (string | undefined)[] {
  if (!('opType' in step.of)) return step.of.rule(context);
  const node = step.of;
  const isOnnx = node.domain === '' || node.domain === 'ai.onnx';
  const rule = isOnnx ? gradientRules.get(node.opType) : undefined;
  if (rule === undefined) throw noGradient(node, 'its operator has no rule');
  // Of operators with several outputs only the parts of a Split are more than statistics and indices.
  if (node.opType !== 'Split' && context.gradients.slice(1).some((name) => name !== undefined)) {
    throw noGradient(node, 'the loss depends on an output other than its first');
  }
  const found = rule({ ...context, node, attributes: readAttributes(node) });
  const missing = context.inputs.findIndex((_, index) => context.wants(index) && found[index] === undefined);
  if (missing >= 0) throw noGradient(node, `none is known of its input ${context.inputs[missing]}`);
  return found;
}
