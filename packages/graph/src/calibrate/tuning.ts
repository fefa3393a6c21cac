/** Numbers that trade the fit's time against its quality. */
export interface CalibrationTuning {
  /** Directions whose sensitivity is measured, for each tensor. */
  numProbes: number;
  /** Frames on which it is measured. */
  numProbeFrames: number;
  /** Size of a change, relative to the root mean square of a block. */
  probeSize: number;
  /** Share of equal sensitivity mixed into the measured one. */
  shrink: number;
  /** The coder's tables are fitted on so many values at each level. */
  maxValues: number;
  maxBlockSize: number;
  /**
   * The price of a bit in squares of the step, at the finest and at the roughest level. High-rate theory says
   * ln 2 / 6 ≈ 0.12; where zeros prevail, they also make further zeros cheaper.
   */
  finestLambda: number;
  roughestLambda: number;
}

export const defaultTuning: CalibrationTuning = {
  numProbes: 256,
  numProbeFrames: 5,
  probeSize: 0.05,
  shrink: 0.2,
  maxValues: 500_000,
  maxBlockSize: 512,
  finestLambda: 0.06,
  roughestLambda: 0.15,
};
