import type { Plan } from '@isthmus/planner';
import { formatPlan } from '../plan-options.js';
import type { PolicyFactory } from './policy.js';

/** The same plan for every frame. */
export function fixedPolicy(plan: Plan): PolicyFactory {
  return () => ({ name: `fixed:${formatPlan(plan)}`, decide: () => ({ plan }) });
}

/** One choice for every frame, made before; for what knows the future. */
export function scheduledPolicy(name: string, schedule: readonly (Plan | undefined)[]): PolicyFactory {
  return () => ({
    name,
    pings: false,
    decide: ({ index }) => ({ plan: schedule[index] ?? { kind: 'skip' } }),
  });
}
