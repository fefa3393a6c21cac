import type { NodeProto } from '@isthmus/graph';
import type { Attributes } from './attributes.js';
import type { Draft } from './draft.js';
import type { Ops } from './ops.js';

/** What the gradient rule of a composite step may look at. */
export interface CompositeContext {
  readonly draft: Draft;
  /** Adds nodes to the draft. */
  readonly ops: Ops;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** The gradients of the outputs; undefined for outputs that the loss does not depend on. */
  readonly gradients: readonly (string | undefined)[];
  /** The gradient of the first output that has one. */
  readonly gradient: string;
  /** Whether the gradient of input `index` is wanted. */
  wants(index: number): boolean;
  /** The shape of input `index`. */
  shape(index: number): readonly number[];
}

/** What the gradient rule of an operator may look at. */
export interface GradientContext extends CompositeContext {
  readonly node: NodeProto;
  readonly attributes: Attributes;
}

/**
 * Adds the nodes that compute the gradients of a step's inputs from those of its outputs, and returns their names
 * by input: undefined for those that are not wanted, or through which nothing flows.
 */
export type CompositeRule = (context: CompositeContext) => readonly (string | undefined)[];
export type GradientRule = (context: GradientContext) => readonly (string | undefined)[];
/** Rules by operator of ai.onnx. */
export type GradientRules = Readonly<Record<string, GradientRule>>;
