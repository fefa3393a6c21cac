/** A curve that others published: their figures, on their data. */
export interface PublishedCurve {
  name: string;
  /** Of what, where it is from, and how it was read. */
  source: string;
  /** Top-1 of their model without compression. */
  uncompressed: number;
  points: readonly { bpp: number; top1: number }[];
}

// torchvision's ResNet-50, first weights, on the 50,000 photographs of ImageNet's validation set.
const resnet50 = 0.7613;
const edgeCloud =
  'ResNet-50, ImageNet validation; github.com/duanzhiihao/edge-cloud-rac, results (arXiv 2211.09897)';
const interpolated =
  'ResNet-50, ImageNet validation; interpolated between points that edge-cloud-rac and sc2-benchmark publish (arXiv 2211.09897, 2203.08875)';

const curve = (bpps: readonly number[], accuracies: readonly number[]): PublishedCurve['points'] =>
  bpps.map((bpp, at) => ({ bpp, top1: accuracies[at] ?? 0 }));

/** What others publish for a model with so many classes; none unless it is ImageNet's thousand. */
export function publishedFor(numClasses: number): readonly PublishedCurve[] {
  return numClasses === 1000 ? publishedCurves : [];
}

/**
 * What others reach for a classifier of ImageNet at 224 × 224. Their photographs are not those of a run here, and their
 * model is not: compare how much accuracy is lost at how many bits, and no closer than to a point or two.
 */
const publishedCurves: readonly PublishedCurve[] = [
  {
    name: 'Duan n8, tail tuned',
    source: edgeCloud,
    uncompressed: resnet50,
    points: curve(
      [1.1589, 0.717, 0.4348, 0.3153, 0.2251, 0.1397, 0.0929],
      [0.75202, 0.7458, 0.73514, 0.72978, 0.7151, 0.70568, 0.67924],
    ),
  },
  {
    name: 'Duan n8, tail frozen',
    source: edgeCloud,
    uncompressed: resnet50,
    points: curve(
      [1.322, 0.8254, 0.5522, 0.4057, 0.2877, 0.1879, 0.1133],
      [0.74142, 0.73678, 0.72396, 0.72128, 0.71144, 0.69644, 0.65464],
    ),
  },
  {
    name: 'Duan n0, tail tuned',
    source: edgeCloud,
    uncompressed: resnet50,
    points: curve(
      [1.8164, 1.2616, 0.7908, 0.5871, 0.4352, 0.2855, 0.1807, 0.1395, 0.114],
      [0.74914, 0.74622, 0.74078, 0.7384, 0.7306, 0.7068, 0.67814, 0.63954, 0.61984],
    ),
  },
  {
    name: 'Entropic Student',
    source: interpolated,
    uncompressed: resnet50,
    points: curve([0.85, 0.57, 0.361, 0.302], [0.75, 0.74, 0.72, 0.7]),
  },
  {
    name: 'WebP and a tuned classifier',
    source: interpolated,
    uncompressed: resnet50,
    points: curve([0.95, 0.67, 0.433, 0.311], [0.75, 0.74, 0.72, 0.7]),
  },
  {
    name: 'WebP',
    source: interpolated,
    uncompressed: resnet50,
    points: curve([2.03, 1.45, 1.02, 0.82], [0.75, 0.74, 0.72, 0.7]),
  },
];
