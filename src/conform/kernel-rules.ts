/**
 * Which rules the kernel under /dev/kvm follows, asked of it by a few cases that tell, in some milliseconds, rather than read
 * from its version: distributors take fixes back into old kernels. One case for each rule that not every kernel has; the
 * judge's outcome is a model's with the rule, or one's without it.
 */
import {
  type ApicSystemOptions,
  BASE,
  type Behaviour,
  holds,
  KERNELS,
  REG,
  RULES,
  type RuleName,
  VERSIONED_RULES,
} from '../apic/index.ts';
import { compareOutcomes } from './compare.ts';
import { ModelJudge } from './model-judge.ts';
import type { ApicSpec, Case, HostOperation, Judge, RegisterValue } from './spec.ts';

export interface KernelRules {
  /** The model to compare it with ... */
  readonly behaviour: Behaviour;
  /** ... without these rules. None where the kernel's rules are all those of one that is known. */
  readonly lacking: readonly RuleName[];
  /** One line for a person. */
  readonly text: string;
}

const PAGE = 0xfee00000;
const XAPIC = PAGE | BASE.ENABLE;
const X2APIC = XAPIC | BASE.EXTD;
const ENABLED: RegisterValue = [REG.SPIV, 0x1ff];
const FLAT: RegisterValue = [REG.DFR, 0xffffffff];
const LOGICAL_MSI = 1 << 2;
const VECTOR = 0x31;

const ldr = (logicalId: number): RegisterValue => [REG.LDR, logicalId * 2 ** 24];
const xapic = (apicId: number, ...registers: readonly RegisterValue[]): ApicSpec => ({
  apicId,
  baseLow: XAPIC >>> 0,
  baseHigh: 0,
  registers: [[REG.ID, (apicId & 0xff) * 2 ** 24], FLAT, ENABLED, ...registers],
});
const x2apic = (apicId: number): ApicSpec => ({
  apicId,
  baseLow: X2APIC >>> 0,
  baseHigh: 0,
  // Without the gate the state has the ID in bits 31:24.
  registers: [[REG.ID, (apicId & 0xff) * 2 ** 24], ENABLED],
});
const msi = (destination: number, more = 0): HostOperation => ({
  kind: 'msi',
  addressLow: (PAGE | (destination << 12) | more) >>> 0,
  addressHigh: 0,
  data: VECTOR,
});

/** With the gate off: who is there, and what is done to them. The words are those of src/apic/telling.ts. */
const CASES: { readonly [Name in RuleName]?: readonly [readonly ApicSpec[], readonly HostOperation[]] } = {
  gate: [[xapic(0x23), xapic(0x123)], [msi(0x23)]],
  logicalAlias: [[xapic(0, ldr(1)), xapic(1, ldr(1))], [msi(1, LOGICAL_MSI)]],
  noLogicalModeIsNobody: [[xapic(0, [REG.SPIV, 0xff])], [msi(1, LOGICAL_MSI)]],
  xapicIdOnLeavingX2apic: [[x2apic(0x23)], [{ kind: 'base', cpu: 0, low: XAPIC >>> 0, high: 0 }, msi(0x23)]],
  x2apicIdReadOnly: [[x2apic(0x23)], [{ kind: 'state', cpu: 0, registers: [[REG.ID, 0x24 * 2 ** 24]] }, msi(0x24)]],
};

/**
 * @param judge the kernel, or what stands for it
 * @param host its other properties (`probeHost`)
 */
export function askKernelRules(judge: Judge, host: ApicSystemOptions): KernelRules {
  const lacking = VERSIONED_RULES.filter((rule) => lacks(judge, host, rule));
  const same = KERNELS.filter((kernel) =>
    VERSIONED_RULES.every((rule) => holds(rule, `kvm@${kernel}`) !== lacking.includes(rule)),
  );
  const newest = same.at(-1);
  const routing = lacking.includes('gate') ? RULES.gate.before : RULES.gate.rule;
  if (newest === undefined) {
    const without = `as Linux ${KERNELS.at(-1)} but for ${lacking.join(', ')}`;
    return { behaviour: 'kvm', lacking, text: `this kernel routes ${without}: ${routing}` };
  }
  const range = same[0] === newest ? newest : `${same[0]} to ${newest}`;
  return { behaviour: `kvm@${newest}`, lacking: [], text: `this kernel routes as Linux ${range}: ${routing}` };
}

/** True where the kernel does as a model without the rule; one that does neither is compared with the rule, and differs. */
function lacks(judge: Judge, host: ApicSystemOptions, rule: RuleName): boolean {
  const [apics, operations] = CASES[rule] ?? [];
  if (apics === undefined || operations === undefined) throw new Error(`no case tells rule ${rule}`);
  const rig = apics.map(({ apicId }) => apicId);
  const machine = { x2apicFormat: false, broadcastQuirkDisabled: false, apics, rig, bootstrap: rig[0] ?? 0 };
  const candidate: Case = { machine, operations };
  const outcome = judge.carryOut(candidate);
  const [intact, without] = [[], [rule]].map((breakRules) => {
    const model = new ModelJudge({ ...host, behaviour: 'kvm', breakRules });
    return compareOutcomes(outcome, model.carryOut(candidate)).length === 0;
  });
  return !intact && without === true;
}

/** The rules of this host's kernel. @throws KvmError where KVM cannot be used */
export async function hostKernelRules(): Promise<KernelRules> {
  const { probeHost } = await import('./host.ts');
  const { KernelJudge } = await import('./kernel-judge.ts');
  const host = probeHost();
  const judge = new KernelJudge();
  try {
    return askKernelRules(judge, host);
  } finally {
    judge.close();
  }
}
