/**
 * The named rules of KVM's local APIC. Each is one boolean field, looked at at one place, where the rule is applied; all
 * systems share one shape of object, so a rule costs a load and a predicted branch. A rule is off for one of two reasons:
 * - the kernel that the model follows is older than the rule (`since`);
 * - it was broken by name (option `breakRules`), which makes the model wrong in exactly one way: that is how the conformance
 *   harness shows that it would notice.
 */
import { type Behaviour, isOlder, kernelOf } from './kernels.ts';

export class Rules {
  gate = true;
  physicalAliasDropsMap = true;
  firstAliasWins = true;
  x2apicIdOverridesAlias = true;
  wideDestination = true;
  zeroLdrSkipped = true;
  softwareDisabledSkipped = true;
  mixedLogicalModes = true;
  logicalAlias = true;
  absentIsZero = true;
  xapicBroadcast = true;
  broadcastQuirk = true;
  clusterAddress = true;
  oddDfr = true;
  vectorHashing = true;
  redirectionHint = true;
  lowestSkipsDisabled = true;
  broadcastLowestToFixed = true;
  tmrFollowsTrigger = true;
  disabledRefusesFixed = true;
  levelDeassert = true;
  initReplacesEvents = true;
  msiReservedHigh = true;
  msiWideDestination = true;
  idFixup = true;
  idMismatch = true;
  x2apicLdr = true;
  versionReadOnly = true;
  currentCountResumes = true;
  isrCache = true;
  xapicIdOnEnable = true;
  baseTransitions = true;
  initKeepsX2apic = true;
  mmioHole = true;
  mmioAlignment = true;
  readOnlyFaults = true;
  highWordReserved = true;
  icrReserved = true;
  icrBusyCleared = true;
  icr2TopByte = true;
  selfIpiReserved = true;
  esrZero = true;
  writableBits = true;
  disableMasksLvts = true;
  priorityClass = true;
  eoiHighest = true;
  deadlineMode = true;
  modeSwitchClearsCount = true;
  minimumPeriod = true;
  pendingTimerKept = true;
  noLogicalModeIsNobody = true;
  xapicIdOnLeavingX2apic = true;
  x2apicIdReadOnly = true;
  everyNmiKept = true;
}

export type RuleName = keyof Rules;

/** A rule of KVM's APICs in words. */
export interface RuleInfo {
  readonly rule: string;
  /** Where its absence shows: by routing alone (layer 1), through register accesses (layer 2), or in time. */
  readonly shows: 'routing' | 'registers' | 'time';
  /** The first Linux version that has it; absent: as far back as we read. */
  readonly since?: string;
  /** Upstream; of two the last one completes it. */
  readonly commit?: string;
  /** What kernels before did. Absent without `since`. */
  readonly before?: string;
}

/** What each rule says, where it shows, and since which kernel it is so. */
export const RULES: { readonly [Name in RuleName]: RuleInfo } = {
  gate: {
    shows: 'routing',
    rule: 'x2apicFormat decides: off, an aliased physical ID drops the map; on, the hotplug hack',
    since: '6.3',
    commit: '5b84b0291702',
    before: 'the hotplug hack whatever x2apicFormat says',
  },
  physicalAliasDropsMap: { shows: 'routing', rule: 'gate off: two APICs with one physical ID leave no map at all' },
  firstAliasWins: { shows: 'routing', rule: 'gate on: of aliased xAPIC IDs the APIC that was created first is mapped' },
  x2apicIdOverridesAlias: {
    shows: 'routing',
    rule: 'gate on: an x2APIC-mode ID, or one over 0xff, replaces what is mapped',
  },
  wideDestination: {
    shows: 'routing',
    rule: 'scan: a destination over 0xff is compared with the x2APIC ID in any mode',
  },
  zeroLdrSkipped: { shows: 'routing', rule: 'map: an LDR of zero says nothing about the logical mode' },
  softwareDisabledSkipped: { shows: 'routing', rule: 'map: a software-disabled APIC is in no logical map' },
  mixedLogicalModes: { shows: 'routing', rule: 'map: APICs in different logical modes disable the logical map' },
  logicalAlias: {
    shows: 'routing',
    rule: 'map: a shared logical bit, or an LDR with several, disables the logical map',
    since: '6.3',
    commit: '2bf934aadcac, 2970052481b9',
    before: 'the last APIC on a shared bit has it, and of several bits the lowest counts',
  },
  absentIsZero: { shows: 'routing', rule: 'through the map an absent destination answers 0; by scan -1' },
  xapicBroadcast: { shows: 'routing', rule: 'quirk on: 0xff from any sender but an x2APIC IPI is broadcast' },
  broadcastQuirk: { shows: 'routing', rule: 'quirk on: an MSI to 0xff reaches APICs in x2APIC mode too' },
  clusterAddress: { shows: 'routing', rule: 'scan: cluster model compares the cluster as well as the member bits' },
  oddDfr: { shows: 'routing', rule: 'scan: a DFR that is neither flat nor cluster matches nothing' },
  vectorHashing: { shows: 'routing', rule: 'lowest priority picks the (vector mod n)th of n candidates' },
  redirectionHint: { shows: 'routing', rule: "an MSI's redirection hint asks for lowest priority" },
  lowestSkipsDisabled: { shows: 'routing', rule: 'scan: lowest priority considers only software-enabled APICs' },
  broadcastLowestToFixed: { shows: 'routing', rule: 'scan: lowest priority to physical 0xff becomes fixed' },
  tmrFollowsTrigger: { shows: 'routing', rule: 'TMR takes the trigger mode of each accepted interrupt' },
  disabledRefusesFixed: { shows: 'routing', rule: 'a software-disabled APIC takes NMI and INIT, not fixed or lowest' },
  levelDeassert: { shows: 'registers', rule: 'a level-triggered INIT or fixed IPI without assert is dropped' },
  initReplacesEvents: { shows: 'registers', rule: 'INIT discards a SIPI that is still pending' },
  msiReservedHigh: { shows: 'routing', rule: 'gate on: address_hi[7:0] must be zero, else -EINVAL' },
  msiWideDestination: { shows: 'routing', rule: 'gate on: address_hi[31:8] are destination bits 31:8' },
  idFixup: { shows: 'routing', rule: 'gate off: in x2APIC mode the state has the ID in bits 31:24' },
  idMismatch: { shows: 'routing', rule: 'gate on: in x2APIC mode a state with another ID is -EINVAL' },
  x2apicLdr: { shows: 'routing', rule: 'in x2APIC mode the LDR is the ID, whatever a state says' },
  versionReadOnly: { shows: 'routing', rule: 'a state cannot change the version register' },
  currentCountResumes: { shows: 'time', rule: "a state's TMCCT is what the timer goes on from" },
  isrCache: { shows: 'routing', rule: 'PPR after setState still comes from the ISR cache of before' },
  xapicIdOnEnable: { shows: 'routing', rule: 'enabling the APIC, or leaving x2APIC mode, resets the xAPIC ID' },
  baseTransitions: { shows: 'registers', rule: 'x2APIC to xAPIC and disabled to x2APIC are #GP for a guest' },
  initKeepsX2apic: { shows: 'registers', rule: 'INIT leaves APIC base, mode, ID and x2APIC LDR alone' },
  mmioHole: { shows: 'registers', rule: 'disabled or in x2APIC mode the page reads as ones' },
  mmioAlignment: { shows: 'registers', rule: 'a write that is not 4 bytes on a 16-byte boundary is dropped' },
  readOnlyFaults: { shows: 'registers', rule: 'x2APIC: writing a read-only or absent register is #GP' },
  highWordReserved: { shows: 'registers', rule: 'x2APIC: bits 63:32 of every register but ICR must be zero' },
  icrReserved: { shows: 'registers', rule: 'x2APIC: reserved ICR bits are #GP' },
  icrBusyCleared: { shows: 'registers', rule: 'ICR never shows BUSY' },
  icr2TopByte: { shows: 'registers', rule: 'xAPIC: only the top byte of ICR2 is kept' },
  selfIpiReserved: { shows: 'registers', rule: 'x2APIC: SELF_IPI bits 31:8 are #GP' },
  esrZero: { shows: 'registers', rule: 'x2APIC: writing ESR with anything but zero is #GP' },
  writableBits: { shows: 'registers', rule: 'reserved bits of TPR, LDR, DFR, SPIV, TDCR and the LVTs are not stored' },
  disableMasksLvts: { shows: 'registers', rule: 'software disable masks the LVTs, and keeps them masked' },
  priorityClass: { shows: 'registers', rule: 'only a vector of a class above PPR is taken' },
  eoiHighest: { shows: 'registers', rule: 'EOI ends the highest vector in service' },
  deadlineMode: { shows: 'registers', rule: 'IA32_TSC_DEADLINE is ignored and reads 0 outside deadline mode' },
  modeSwitchClearsCount: {
    shows: 'registers',
    rule: 'entering or leaving deadline mode clears TMICT and stops the timer',
  },
  minimumPeriod: { shows: 'time', rule: 'a periodic timer is never faster than min_timer_period_us' },
  pendingTimerKept: { shows: 'time', rule: 'an expiry while masked waits for the unmasking' },
  noLogicalModeIsNobody: {
    shows: 'routing',
    rule: 'map: with no software-enabled APIC a logical destination is nobody',
    since: '6.3',
    commit: '35366901017c',
    before: 'such a map has no logical mode, and a scan is made',
  },
  xapicIdOnLeavingX2apic: {
    shows: 'routing',
    rule: 'the host forces x2APIC to xAPIC mode: the xAPIC ID is reset, and the map follows',
    since: '6.3',
    commit: '052c3b99cbc8',
    before: 'the ID register keeps the 32-bit ID, and the map stays as it was',
  },
  x2apicIdReadOnly: {
    shows: 'routing',
    rule: 'gate off: in x2APIC mode the ID that a state brings is ignored',
    since: '6.11',
    commit: '4b7c3f6d04bd',
    before: "its bits 31:24 become the ID register, and LDR and the map's logical entry follow it",
  },
  everyNmiKept: {
    shows: 'routing',
    rule: 'a state (KVM_GET_VCPU_EVENTS) keeps both of two pending NMIs',
    since: '6.4',
    commit: 'ab2ee212a57b',
    before: 'of two pending NMIs a state keeps one',
  },
};

/** The names of all rules, in the order of `RULES`. */
export const RULE_NAMES = Object.keys(RULES) as readonly RuleName[];

/** Whether there is a rule of that name. */
export const isRuleName = (name: string): name is RuleName => Object.hasOwn(RULES, name);

const INTACT: Readonly<Rules> = Object.freeze(new Rules());

/** Is the rule in force under this behaviour, unless it is broken? */
export function holds(name: RuleName, behaviour: Behaviour): boolean {
  const { since } = RULES[name];
  return since === undefined || !isOlder(kernelOf(behaviour), since);
}

/** Made once for each set: systems are made by the thousand. */
const made = new Map<string, Readonly<Rules>>();

/** The rules of a behaviour, with the named ones switched off; the shared intact object when all of them hold. */
export function rulesOf(behaviour: Behaviour, broken: readonly RuleName[]): Readonly<Rules> {
  const key = `${behaviour} ${broken.join()}`;
  const known = made.get(key) ?? makeRules(behaviour, broken);
  made.set(key, known);
  return known;
}

function makeRules(behaviour: Behaviour, broken: readonly RuleName[]): Readonly<Rules> {
  const off = RULE_NAMES.filter((name) => broken.includes(name) || !holds(name, behaviour));
  if (off.length === 0) return INTACT;
  const rules = new Rules();
  for (const name of off) rules[name] = false;
  return rules;
}

/** How many 32-bit words `brokenToBits` fills. */
export const RULE_WORDS = 2;

/** The broken rules as bits for the shared header, so that another thread's view breaks the same ones. */
export function brokenToBits(broken: readonly RuleName[], words: Int32Array, at: number): void {
  RULE_NAMES.forEach((name, i) => {
    if (broken.includes(name)) words[at + (i >> 5)] |= 1 << (i & 31);
  });
}

export const bitsToBroken = (words: Int32Array, at: number): RuleName[] =>
  RULE_NAMES.filter((_, i) => (words[at + (i >> 5)] & (1 << (i & 31))) !== 0);
