import { type CodecEntry, IsthmusError, type Manifest } from '@isthmus/core';
import type { Plan } from '@isthmus/planner';

/** What `--plan` can say: leave it to the session, or one plan or several. */
export type PlanChoice = 'auto' | Plan;

/**
 * The plans that `--plan` asks for: `auto`, `local`, `all`, or CUT/CODEC/LEVEL with the level's name or number, as
 * in `2/quantized/4-bit`. CUT may be FROM-TO; without TO it is where the codec lands.
 *
 * @throws IsthmusError `usage/invalid`; that a plan exists is for the session to say
 */
export function parsePlans(given: readonly string[], manifest: Manifest): PlanChoice[] {
  return given.flatMap((text): PlanChoice[] => {
    if (text === 'auto') return ['auto'];
    if (text === 'local') return [{ kind: 'local' }];
    if (text === 'all') return allPlans(manifest);
    return [parsePlan(text, manifest)];
  });
}

/** Every plan of a bundle, from the frame at cut 0 to the last cut, then `local`. */
export function allPlans(manifest: Manifest): Plan[] {
  const plans = manifest.codecs.flatMap((codec) =>
    codec.paths.flatMap(({ from, to }) =>
      codec.levels.map((_, level): Plan => ({ kind: 'split', from, codec: codec.id, level, to })),
    ),
  );
  const fromOf = (plan: Plan): number => (plan.kind === 'split' ? plan.from : Number.POSITIVE_INFINITY);
  return [...plans.sort((a, b) => fromOf(a) - fromOf(b)), { kind: 'local' }];
}

/** As `--plan` takes it: `2/quantized/1`, `local`. */
export function formatPlan(plan: Plan): string {
  if (plan.kind === 'local') return 'local';
  const path = plan.to === plan.from ? plan.from : `${plan.from}-${plan.to}`;
  return `${path}/${plan.codec}/${plan.level}`;
}

/** A plan for people: `cut 2 · quantized 4-bit`. */
export function describePlan(plan: Plan, manifest: Manifest): string {
  if (plan.kind === 'local') return 'local';
  const codec = manifest.codecs.find(({ id }) => id === plan.codec);
  const path = plan.to === plan.from ? `cut ${plan.from}` : `cut ${plan.from}→${plan.to}`;
  return `${path} · ${plan.codec} ${codec?.levels[plan.level]?.name ?? plan.level}`;
}

function parsePlan(text: string, manifest: Manifest): Plan {
  const match = /^(\d+)(?:-(\d+))?\/([a-z0-9._-]+)(?:\/([a-z0-9._-]+))?$/i.exec(text);
  if (match === null) {
    throw new IsthmusError(
      'usage/invalid',
      `--plan is auto, local, all or CUT/CODEC/LEVEL as in 2/quantized/4-bit, not "${text}".`,
    );
  }
  const [, from, to, codecId, levelText = '0'] = match;
  const codec = manifest.codecs.find(({ id }) => id === codecId);
  const named = codec?.levels.findIndex(({ name }) => name === levelText) ?? -1;
  if (named < 0 && !/^\d+$/.test(levelText)) {
    const names = codec?.levels.map(({ name }) => name).join(', ') ?? 'none, since there is no such codec';
    throw new IsthmusError('usage/invalid', `${codecId} has no level "${levelText}"; it has ${names}.`);
  }
  return {
    kind: 'split',
    from: Number(from),
    to: to === undefined ? landingCut(codec, Number(from)) : Number(to),
    codec: codecId!,
    level: named >= 0 ? named : Number(levelText),
  };
}

// The same cut where a codec can do that, else the first that it leads to.
function landingCut(codec: CodecEntry | undefined, from: number): number {
  const landings = codec?.paths.filter((path) => path.from === from).map(({ to }) => to) ?? [];
  return landings.length === 0 || landings.includes(from) ? from : Math.min(...landings);
}
