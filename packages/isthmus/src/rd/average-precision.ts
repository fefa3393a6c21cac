/** An object: its class and where it is. */
export interface Box {
  index: number;
  x: number;
  y: number;
  width: number;
  height: number;
}

/** An object as a model sees it. */
export interface ScoredBox extends Box {
  score: number;
}

/**
 * Average precision at an overlap of one half, averaged over the classes that occur in the truth: the area under
 * precision over recall with precision made monotone, at all points (The PASCAL Visual Object Classes Challenge:
 * A Retrospective, IJCV 2015, section 3.2.1 and its development kit from 2010 on).
 *
 * Detections are taken best first; each claims the object of its picture and class that it overlaps most. One that
 * overlaps none by half of their union, or whose object is taken, is false.
 *
 * @param truth Objects of each picture.
 * @param found Detections of each picture, in the same order of pictures.
 * @returns 0…1; 1 if the truth is empty and nothing is found, 0 if something is.
 */
export function averagePrecision50(
  truth: readonly (readonly Box[])[],
  found: readonly (readonly ScoredBox[])[],
): number {
  const classes = new Set(truth.flatMap((boxes) => boxes.map(({ index }) => index)));
  if (classes.size === 0) return found.some((boxes) => boxes.length > 0) ? 0 : 1;
  let sum = 0;
  for (const index of classes) sum += classPrecision(pick(truth, index), pick(found, index));
  return sum / classes.size;
}

function pick<T extends Box>(pictures: readonly (readonly T[])[], index: number): T[][] {
  return pictures.map((boxes) => boxes.filter((box) => box.index === index));
}

function classPrecision(truth: readonly Box[][], found: readonly ScoredBox[][]): number {
  const ranked = found
    .flatMap((boxes, picture) => boxes.map((box) => ({ box, picture })))
    .sort((a, b) => b.box.score - a.box.score);
  const taken = new Set<Box>();
  const isTrue = ranked.map(({ box, picture }) => {
    let best: Box | undefined;
    let bestOverlap = 0.5;
    for (const object of truth[picture]!) {
      const overlap = iou(box, object);
      if (overlap >= bestOverlap) [best, bestOverlap] = [object, overlap];
    }
    if (best === undefined || taken.has(best)) return false;
    taken.add(best);
    return true;
  });
  const numObjects = truth.reduce((sum, boxes) => sum + boxes.length, 0);
  let hits = 0;
  const precisions = isTrue.map((hit, i) => {
    if (hit) hits++;
    return hits / (i + 1);
  });
  // From the end: the best precision at this recall or a higher one; recall rises by one object at each hit.
  let area = 0;
  let best = 0;
  for (let i = isTrue.length - 1; i >= 0; i--) {
    best = Math.max(best, precisions[i]!);
    if (isTrue[i]) area += best;
  }
  return area / numObjects;
}

function iou(a: Box, b: Box): number {
  const width = Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x);
  const height = Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y);
  const both = Math.max(0, width) * Math.max(0, height);
  return both / (a.width * a.height + b.width * b.height - both);
}
