/** A quarter of the frames is only measured on. */
export const isHeldOut = (at: number): boolean => at % 4 === 3;

/** Of the frames given to `calibrateBundle` or `importCodec`, those to which they fit nothing. */
export function heldOutFrames<Frame>(frames: readonly Frame[]): Frame[] {
  return frames.filter((_, at) => isHeldOut(at));
}
