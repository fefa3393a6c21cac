import { writeModel } from '@isthmus/graph';
import { foldBatchNorms, type StateVector, stateTensors, type TrainingState } from '@isthmus/train';
import { inferenceDraft } from './base-training.js';
import type { Whitening } from './whitening.js';

/** The trained net for one picture, as an ONNX file. Batch norms are folded into the convolution before them, if there is one. */
export function exportModel(whitening: Whitening, state: TrainingState, vector: StateVector): Uint8Array {
  const { draft, logits } = inferenceDraft(whitening, 1);
  return writeModel(foldBatchNorms(draft.build([logits], stateTensors(state, vector))));
}
