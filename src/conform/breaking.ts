/**
 * Rules to break (`--break`), and where each shows. The list is src/apic's; what is here is how the harness notices.
 */
import { isRuleName, RULE_NAMES, RULES, type RuleName } from '../apic/index.ts';

export type Layer = 1 | 2 | 3;
export const LAYERS: readonly Layer[] = [1, 2, 3];

/** Rules that layer 1 shows as well, since INIT is taken and states are set there. */
const ALSO_LAYER_1 = new Set<RuleName>(['initReplacesEvents', 'initKeepsX2apic', 'currentCountResumes']);

/** The layer that catches a rule's absence soonest. */
export function layerOf(rule: RuleName): Layer {
  return RULES[rule].shows === 'routing' || ALSO_LAYER_1.has(rule) ? 1 : 2;
}

/** @throws RangeError for a name that is no rule, with the nearest names */
export function parseRule(name: string): RuleName {
  if (isRuleName(name)) return name;
  throw new RangeError(`there is no rule '${name}'; apiary conform --break list shows all ${RULE_NAMES.length}`);
}

export function ruleList(): (readonly [rule: string, layer: string, says: string])[] {
  return RULE_NAMES.map((name) => [name, `layer ${layerOf(name)}`, RULES[name].rule] as const);
}
