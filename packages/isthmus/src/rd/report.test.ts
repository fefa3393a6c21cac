import { describe, expect, it } from 'vitest';
import { publishedFor } from './literature.js';
import { renderRdReport } from './report.js';
import type { RdPoint, RdResult } from './result.js';

const point = (bpp: number, top1: number): RdPoint => ({
  ...{ method: 'webp', from: 0, to: 0, level: 0, name: `${bpp}`, bpp, top1, agreement: top1 },
  ...{ encodeMs: 1, decodeMs: 1, deviceMs: 0, cloudMs: 1 },
});

const result = (published: RdResult['published']): RdResult => ({
  ...{ model: 'm', images: 10, skipped: [], metric: 'top1', uncompressed: { top1: 0.9 } },
  points: [point(0.25, 0.7), point(1, 0.85), point(2, 0.89)],
  bdRate: [],
  published,
  identity: { segments: '', pictures: '', codecs: {} },
  runs: [{ methods: ['webp'], machine: 'a machine', date: '2026-01-01' }],
});

describe('renderRdReport', () => {
  it('places what others publish by how much accuracy it loses', () => {
    const own = renderRdReport(result([]));
    expect(own).not.toContain('What others publish');
    const theirs = { name: 'Theirs', source: 'a paper', uncompressed: 0.6, points: [{ bpp: 1, top1: 0.55 }] };
    const page = renderRdReport(result([theirs]));
    // A point that loses as much as one of ours at the same rate lies where ours does.
    const [circle] = page.match(/<circle [^>]*><title>[^<]*1\.000 bits[^<]*<\/title>/) ?? [];
    const [mark] = page.match(/<path class="mark"[^>]*><title>Theirs[^<]*<\/title>/) ?? [];
    const [cx, cy] =
      /cx="([\d.]+)" cy="([\d.]+)"/
        .exec(circle ?? '')
        ?.slice(1)
        .map(Number) ?? [];
    const [mx, my] =
      /d="M([\d.]+) ([\d.]+)/
        .exec(mark ?? '')
        ?.slice(1)
        .map(Number) ?? [];
    expect([mx, (my ?? 0) + 5]).toEqual([cx, cy]);
    expect(mark).toContain('-5.0 points');
    expect(page).toContain('a paper');
  });

  it('knows what others publish for ImageNet only, each curve from rough to fine', () => {
    expect(publishedFor(10)).toEqual([]);
    const curves = publishedFor(1000);
    expect(curves.length).toBeGreaterThan(0);
    for (const { points, uncompressed } of curves) {
      const byRate = [...points].sort((a, b) => a.bpp - b.bpp).map(({ top1 }) => top1);
      expect(byRate).toEqual([...byRate].sort((a, b) => a - b));
      expect(byRate.at(-1)).toBeLessThan(uncompressed);
    }
  });
});
