/**
 * Every named rule, broken: for each there is a case whose outcome changes when that rule alone is switched off. So none of
 * them is dead, and the conformance harness can show that it would notice each.
 */
import { describe, expect, it } from 'vitest';
import {
  ApicSystem,
  type ApicSystemOptions,
  isRuleName,
  RULE_NAMES,
  RULES,
  type RuleName,
} from '../../../src/apic/index.ts';
import {
  type CpuSpec,
  DFR,
  ESR,
  enter,
  ICR,
  ICR2,
  ID,
  IRR,
  ISR,
  LDR,
  LINT0,
  LVT_TIMER,
  make,
  PPR,
  rdmsr,
  read,
  SPIV,
  sendIpi,
  sendMsi,
  setRegister,
  stateWord,
  TMCCT,
  TMICT,
  TMR,
  TPR,
  TSC_DEADLINE,
  takers,
  VERSION,
  vectors,
  write,
  wrmsr,
  X2_ESR,
  X2_ICR,
  X2_LDR,
  X2_SELF_IPI,
  X2_TPR,
} from './helpers.ts';

const V = 0x41;
const MSI_LOGICAL = 4;
const on = { x2apicFormat: true };
const scan = { failMapAllocation: true };

type Build = (options: ApicSystemOptions, cpus: readonly CpuSpec[]) => ReturnType<typeof make>;

/** Who takes a message to `destination`, in a machine whose APICs have these LDRs. */
function logical(build: Build, options: ApicSystemOptions, ldrs: readonly number[], destination: number, low = V) {
  const { system, apics } = build(
    options,
    ldrs.map((_, i) => [i]),
  );
  apics.forEach((apic, i) => {
    write(apic, LDR, ldrs[i] << 24);
  });
  return [sendMsi(system, destination, low, MSI_LOGICAL), takers(apics, low & 0xff)];
}

function physical(build: Build, options: ApicSystemOptions, cpus: readonly CpuSpec[], destination: number, low = V) {
  const { system, apics } = build(options, cpus);
  return [sendMsi(system, destination, low), takers(apics, low & 0xff)];
}

const one = (build: Build, mode: CpuSpec[1] = 'xapic', options: ApicSystemOptions = {}) =>
  build(options, [[0, mode]]).apics[0];

const cases: Record<RuleName, (build: Build) => unknown> = {
  gate: (b) => physical(b, {}, [[0x23], [0x123]], 0x23),
  physicalAliasDropsMap: (b) => physical(b, {}, [[0x23], [0x123]], 0x23),
  firstAliasWins: (b) => physical(b, on, [[0x23], [0x123]], 0x23),
  x2apicIdOverridesAlias: (b) => physical(b, on, [[0x123], [0x23, 'x2apic']], 0x23),
  wideDestination: (b) => physical(b, { ...on, ...scan }, [[0x23], [0x123]], 0x123),
  zeroLdrSkipped: (b) => {
    const { system, apics } = b({}, [[0], [1], [2, 'x2apic']]);
    write(apics[0], LDR, 0);
    return system.map().logicalMode;
  },
  softwareDisabledSkipped: (b) => {
    const { system, apics } = b({}, [[0, 'disabled']]);
    write(apics[0], LDR, 0x01000000);
    return system.map().logicalMode;
  },
  mixedLogicalModes: (b) => {
    const { system, apics } = b({}, [[0], [1]]);
    write(apics[0], LDR, 0x01000000);
    write(apics[1], LDR, 0x12000000);
    write(apics[1], DFR, 0);
    return system.map().logicalMode;
  },
  logicalAlias: (b) => logical(b, {}, [1, 1], 1),
  absentIsZero: (b) => physical(b, {}, [[0]], 9),
  xapicBroadcast: (b) => physical(b, {}, [[0], [1]], 0xff),
  broadcastQuirk: (b) => physical(b, {}, [[0], [1, 'x2apic']], 0xff),
  clusterAddress: (b) => {
    const { system, apics } = b(scan, [[0]]);
    write(apics[0], DFR, 0);
    write(apics[0], LDR, 0x11000000);
    return sendMsi(system, 0x21, V, MSI_LOGICAL);
  },
  oddDfr: (b) => {
    const { system, apics } = b(scan, [[0]]);
    write(apics[0], DFR, 0x70000000);
    write(apics[0], LDR, 0x11000000);
    return sendMsi(system, 0x11, V, MSI_LOGICAL);
  },
  vectorHashing: (b) => logical(b, {}, [1, 2], 3, 0x141),
  redirectionHint: (b) => {
    const { system } = b({}, [[0], [1]]);
    return sendMsi(system, 0xff, V, 8);
  },
  lowestSkipsDisabled: (b) => {
    const { system, apics } = b(scan, [[0, 'disabled'], [1]]);
    for (const apic of apics) write(apic, LDR, 0x01000000);
    return sendMsi(system, 1, 0x142, MSI_LOGICAL);
  },
  broadcastLowestToFixed: (b) => physical(b, {}, [[0], [1]], 0xff, 0x141),
  tmrFollowsTrigger: (b) => {
    const { system, apics } = b({}, [[0]]);
    sendMsi(system, 0, 0x8041);
    return vectors(apics[0], TMR);
  },
  disabledRefusesFixed: (b) => physical(b, {}, [[0, 'disabled']], 0),
  levelDeassert: (b) => {
    const { apics } = b({}, [[0]]);
    sendIpi(apics[0], 0, 0x8500);
    return apics[0].takeEvents();
  },
  initReplacesEvents: (b) => {
    const { apics } = b({}, [[0]]);
    sendIpi(apics[0], 0, 0x608);
    sendIpi(apics[0], 0, 0x500);
    return apics[0].takeEvents();
  },
  msiReservedHigh: (b) => b(on, [[0]]).system.signalMsi(0xfee00000, 1, V),
  msiWideDestination: (b) => physical(b, on, [[0x23], [0x123]], 0x123),
  idFixup: (b) => stateWord(b({}, [[0x23, 'x2apic']]).apics[0], ID),
  idMismatch: (b) => setRegister(b(on, [[0x23, 'x2apic']]).apics[0], { [ID]: 0x24 }),
  x2apicLdr: (b) => {
    const apic = one(b, 'x2apic');
    setRegister(apic, { [LDR]: 0x99 });
    return rdmsr(apic, X2_LDR);
  },
  versionReadOnly: (b) => {
    const apic = one(b);
    setRegister(apic, { [VERSION]: 0 });
    return read(apic, VERSION);
  },
  currentCountResumes: (b) => {
    const apic = one(b);
    setRegister(apic, { [LVT_TIMER]: 0x40, [TMICT]: 1000, [TMCCT]: 300 });
    return apic.timerDeadlineNanos();
  },
  isrCache: (b) => {
    const apic = one(b);
    setRegister(apic, { [ISR + 0x10]: 0x80 });
    return stateWord(apic, PPR);
  },
  xapicIdOnEnable: (b) => {
    const apic = one(b);
    write(apic, ID, 0x99000000);
    enter(apic, 'off');
    enter(apic, 'off');
    apic.setApicBase(0xfee00800, 0);
    return read(apic, ID);
  },
  baseTransitions: (b) => wrmsr(one(b, 'x2apic'), 0x1b, 0xfee00800),
  initKeepsX2apic: (b) => {
    const apic = one(b, 'x2apic');
    apic.reset(true);
    return apic.mode;
  },
  mmioHole: (b) => read(one(b, 'x2apic'), SPIV),
  mmioAlignment: (b) => {
    const apic = one(b);
    apic.writeMmio(TPR, 1, 0x20);
    return read(apic, TPR);
  },
  readOnlyFaults: (b) => wrmsr(one(b, 'x2apic'), X2_LDR, 0),
  highWordReserved: (b) => wrmsr(one(b, 'x2apic'), X2_TPR, 0, 1),
  icrReserved: (b) => wrmsr(one(b, 'x2apic'), X2_ICR, 0x20031),
  icrBusyCleared: (b) => {
    const apic = one(b);
    write(apic, ICR, 0x1031);
    return read(apic, ICR);
  },
  icr2TopByte: (b) => {
    const apic = one(b);
    write(apic, ICR2, 0xffffffff);
    return read(apic, ICR2);
  },
  selfIpiReserved: (b) => wrmsr(one(b, 'x2apic'), X2_SELF_IPI, 0x177),
  esrZero: (b) => wrmsr(one(b, 'x2apic'), X2_ESR, 1),
  writableBits: (b) => {
    const apic = one(b);
    write(apic, LINT0, 0xffffffff);
    return read(apic, LINT0);
  },
  disableMasksLvts: (b) => {
    const apic = one(b);
    write(apic, LINT0, 0x700);
    write(apic, SPIV, 0xff);
    return read(apic, LINT0);
  },
  priorityClass: (b) => {
    const { system, apics } = b({}, [[0]]);
    write(apics[0], TPR, 0xf0);
    sendMsi(system, 0, V);
    return apics[0].pendingVector();
  },
  eoiHighest: (b) => {
    const apic = one(b);
    setRegister(apic, { [ISR + 0x20]: 3 });
    apic.eoi();
    return vectors(apic, ISR);
  },
  deadlineMode: (b) => {
    const apic = one(b);
    wrmsr(apic, TSC_DEADLINE, 5);
    return rdmsr(apic, TSC_DEADLINE);
  },
  modeSwitchClearsCount: (b) => {
    const apic = one(b);
    write(apic, TMICT, 1000);
    write(apic, LVT_TIMER, 0x40040);
    return read(apic, TMICT);
  },
  minimumPeriod: (b) => {
    const apic = one(b);
    write(apic, LVT_TIMER, 0x20040);
    write(apic, TMICT, 10);
    return apic.timerDeadlineNanos();
  },
  pendingTimerKept: (b) => {
    const apic = one(b);
    write(apic, LVT_TIMER, 0x10040);
    write(apic, TMICT, 10);
    apic.expireTimer(1_000_000);
    write(apic, LVT_TIMER, 0x40);
    return vectors(apic, IRR);
  },
  noLogicalModeIsNobody: (b) => sendMsi(b({}, [[0, 'disabled']]).system, 1, V, MSI_LOGICAL),
  xapicIdOnLeavingX2apic: (b) => {
    const apic = b({}, [[0x23, 'x2apic']]).apics[0];
    apic.setApicBaseFromHost(0xfee00800, 0);
    return read(apic, ID);
  },
  x2apicIdReadOnly: (b) => {
    const apic = b({}, [[0x23, 'x2apic']]).apics[0];
    return [setRegister(apic, { [ID]: 0x24000000 }), stateWord(apic, ID), rdmsr(apic, X2_LDR)];
  },
  everyNmiKept: (b) => [0, 1, 2].map((pending) => b({}, [[0]]).apics[0].nmisInState(pending)),
};

describe('the list of rules', () => {
  it('has at least 15 entries, the gate among them, each with a description', () => {
    expect(RULE_NAMES.length).toBeGreaterThanOrEqual(15);
    expect(isRuleName('gate')).toBe(true);
    expect(isRuleName('toString')).toBe(false);
    for (const name of RULE_NAMES) expect(RULES[name].rule.length).toBeGreaterThan(10);
  });

  it('a view on another thread has the same rules broken', () => {
    const system = new ApicSystem({ breakRules: ['gate', 'pendingTimerKept'] });
    expect(ApicSystem.attach(system.memory).options.breakRules).toEqual(['gate', 'pendingTimerKept']);
  });
});

describe('breaking one rule changes', () => {
  for (const name of RULE_NAMES) {
    it(`${name}: ${RULES[name].rule}`, () => {
      const outcome = (breakRules: readonly RuleName[]): unknown =>
        cases[name]((options, cpus) => make({ ...options, breakRules }, cpus));
      expect(outcome([name])).not.toEqual(outcome([]));
      expect(outcome([])).toEqual(outcome([]));
    });
  }
});

it('ESR keeps what a state put there', () => {
  const apic = make({}, [[0]]).apics[0];
  setRegister(apic, { [ESR]: 0x40 });
  write(apic, ESR, 0);
  expect(read(apic, ESR)).toBe(0x40);
});
