/**
 * `apiary/apic`: local APICs that behave as KVM's in-kernel ones do. Pure: no KVM, thread, file or clock.
 *
 *     const system = new ApicSystem({ x2apicFormat: true });
 *     const cpu0 = system.addApic(0);
 *     cpu0.writeMmio(REG.SPIV, 4, 0x1ff);
 *     system.signalMsi(0xfee00000, 0, 0x31); // 1: taken
 *     cpu0.acknowledge(); // 0x31
 */
export { MAP_DIFFERENCES, type MapDifference, type MapDifferenceName } from './differences.ts';
export type { Explanation, Match, RouteEvent } from './explain.ts';
export {
  type ApicMode,
  BASE,
  COMMAND,
  DELIVERY,
  DELIVERY_NAMES,
  DFR,
  ICR,
  LVT,
  MODE,
  SHORTHAND,
  SPIV,
  TIMER_MODE,
} from './fields.ts';
export type { ApicHost } from './host.ts';
export { BEHAVIOURS, type Behaviour, KERNELS, type Kernel } from './kernels.ts';
export { APIC_EVENT, LocalApic } from './local-apic.ts';
export { type ApicMessage, FROM_DEVICE, inWords, makeCommand } from './message.ts';
export {
  APIC_OPTION_NAMES,
  type ApicOptionName,
  type ApicSystemOptions,
  parseApicOption,
  resolveOptions,
  type SuppressEoiBroadcast,
} from './options.ts';
export type { ApicPort } from './port.ts';
export { LVT_OFFSETS, MSR, PAGE_BYTES, REG, REGISTERS, type RegisterInfo, STATE_BYTES } from './registers.ts';
export type { Path } from './router.ts';
export { holds, isRuleName, RULE_NAMES, RULES, type RuleInfo, type RuleName } from './rules.ts';
export type { LocalApicState } from './saved-state.ts';
export type { ApicMapSnapshot, InhibitReason, LocalApicSnapshot, LogicalMode } from './snapshot.ts';
export { ApicSystem } from './system.ts';
export { type ApicsToAsk, modelToAsk, type TellingCase, tellingCase, VERSIONED_RULES } from './telling.ts';
export type { ApicTrace, ApicTraceEvent } from './trace.ts';
