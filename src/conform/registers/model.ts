/**
 * The judge without a guest: src/apic alone, with what a CPU does around it written down in a few lines. It also knows
 * which results nobody can compare: reads of no register, and counts that fall as time goes by.
 */

import { timerDivisor } from '../../apic/fields.ts';
import {
  APIC_EVENT,
  type ApicMode,
  ApicSystem,
  type ApicSystemOptions,
  BASE,
  type LocalApic,
  MSR,
  PAGE_BYTES,
  REG,
  STATE_BYTES,
  TIMER_MODE,
} from '../../apic/index.ts';
import { applyRegisters, fillPage, hasInService } from '../page.ts';
import type { MachineSpec } from '../spec.ts';
import {
  byName,
  GP,
  mayStartCpus,
  NMI,
  type OperationResult,
  type Outcome,
  type RegisterCase,
  type RegisterJudge,
  type RegisterOperation,
  SKIPPED,
  type Taken,
} from './operations.ts';

/** What a count that falls by itself may be, or 'any' where there is nothing to compare with. */
export interface Count {
  readonly least: number;
  readonly most: number;
}
export type Allowed = Count | 'any';
/** A list takes milliseconds, on a busy host perhaps seconds. */
const SLOW_NANOS = 3e9;
/** The TSC when a list starts: any deadline below has passed. */
const TSC_START = 1n << 40n;

const NMI_LIMIT = 2;
/** As interrupts they push no error code, so the guest has them share the gate of the next vector. */
const EXCEPTIONS_WITH_CODE: ReadonlySet<number> = new Set([17, 21]);
const NO_EOI = 1;
const CR8_RESERVED = 0xfffffff0;
const TMCCT_MSR = MSR.X2APIC_FIRST + (REG.TMCCT >> 4);
const TOP_OF_MEMORY = 2 ** 32;

interface ModelCpu {
  readonly apic: LocalApic;
  readonly taken: Taken[];
  runs: boolean;
  /** The current count after the CPU's last write; undefined when it cannot be told. */
  count: number | undefined;
  /** The smallest divisor of the list so far: how fast the count may have fallen before a later write changed it. */
  fastest: number;
}

/** Told of everything that the model does, for coverage. */
export interface ModelObserver {
  performed?(operation: RegisterOperation, result: OperationResult, before: ApicMode, after: ApicMode): void;
  took?(event: 'INIT' | 'SIPI' | 'NMI' | 'interrupt' | 'timer interrupt'): void;
}

export class RegisterModel implements RegisterJudge {
  readonly name = 'model';
  /** Operations of the last case whose result cannot be compared as it is. */
  readonly allowed = new Map<number, Allowed>();
  /** The same of each CPU's current count at the end. */
  finalCounts: Count[] = [];
  observer: ModelObserver = {};
  readonly #options: ApicSystemOptions;
  readonly #page = new Uint8Array(STATE_BYTES);
  #system = new ApicSystem({ shared: false, maxApics: 1 });
  #cpus: ModelCpu[] = [];
  #events: string[] = [];
  #now = 0;

  constructor(options: ApicSystemOptions) {
    this.#options = options;
  }

  get system(): ApicSystem {
    return this.#system;
  }

  carryOut({ machine, operations }: RegisterCase): Outcome {
    this.#build(machine);
    this.allowed.clear();
    const results = operations.map((operation, i) => {
      const cpu = this.#cpu(operation.cpu);
      if (!cpu.runs) return { low: 0, high: 0, fault: SKIPPED };
      this.#takeNmis(cpu, i);
      this.#expire(cpu);
      const before = cpu.apic.mode;
      const result = this.#perform(cpu, operation, i);
      if (operation.kind.endsWith('write') || operation.kind === 'wrmsr') this.#noteCount(cpu);
      this.#expire(cpu);
      const after = cpu.apic.mode;
      if (mayStartCpus(operation)) this.#settleAll(i, operation.cpu);
      if (cpu.runs) this.#takeNmis(cpu, i);
      this.observer.performed?.(operation, result, before, after);
      return result;
    });
    for (const cpu of this.#cpus) if (cpu.runs) this.#takeNmis(cpu, operations.length);
    const pages = this.#cpus.map(({ apic }) => apic.getState());
    this.finalCounts = this.#cpus.map((cpu, i) => {
      const view = new DataView((pages[i] ?? this.#page).buffer);
      const allowed = allowedCount(cpu, view.getUint32(REG.TMCCT, true));
      view.setUint32(REG.TMCCT, allowed.most, true);
      return allowed;
    });
    return {
      results,
      events: this.#events.toSorted(byName),
      cpus: this.#cpus.map(({ apic, taken }, i) => ({
        taken,
        page: pages[i] ?? this.#page,
        baseLow: apic.apicBaseLow,
        baseHigh: apic.apicBaseHigh,
      })),
    };
  }

  close(): void {
    this.#cpus = [];
  }

  #build({ x2apicFormat, broadcastQuirkDisabled, apics, rig }: MachineSpec): void {
    this.#now = 0;
    this.#events = [];
    this.#system = new ApicSystem(
      {
        ...this.#options,
        x2apicFormat,
        broadcastQuirkDisabled,
        maxApics: Math.max(apics.length, 1),
        maxApicId: apics.reduce((max, { apicId }) => Math.max(max, apicId), 255),
        lateMapEntry: true,
        shared: false,
      },
      { nowNanos: () => this.#now, guestTsc: () => this.#tsc() },
    );
    this.#cpus = apics.map((spec) => {
      const bootstrap = spec.apicId === rig[0];
      const apic = this.#system.addApic(spec.apicId, { bootstrap });
      apic.setApicBaseFromHost(0, 0);
      this.#page.fill(0);
      applyRegisters(this.#page, [[REG.SPIV, 0xff]]);
      apic.setState(this.#page);
      return { apic, taken: [], runs: true, count: 0, fastest: Number.POSITIVE_INFINITY };
    });
    for (const [i, spec] of apics.entries()) {
      const cpu = this.#cpu(i);
      const { apic } = cpu;
      apic.setApicBaseFromHost(spec.baseLow, spec.baseHigh);
      fillPage(this.#page, spec, x2apicFormat);
      apic.setState(this.#page);
      if (hasInService(spec)) apic.setState(this.#page);
      this.#noteCount(cpu);
    }
  }

  #tsc(): bigint {
    return TSC_START + (BigInt(Math.trunc(this.#now)) * BigInt(this.#options.tscKhz ?? 1_000_000)) / 1_000_000n;
  }

  #cpu(index: number): ModelCpu {
    const cpu = this.#cpus[index];
    if (cpu === undefined) throw new Error(`the machine has no CPU ${index}`);
    return cpu;
  }

  #perform(cpu: ModelCpu, operation: RegisterOperation, position: number): OperationResult {
    const { apic } = cpu;
    const { size, address, low, high } = operation;
    switch (operation.kind) {
      case 'mmio-read':
        return this.#read(cpu, address, size, position);
      case 'mmio-write':
        this.#write(apic, address, size, low);
        return NOTHING;
      case 'rdmsr':
        if (!apic.readMsr(address)) return FAULT;
        if (address === TMCCT_MSR) return this.#count(cpu, apic.msrLow, position);
        return { low: apic.msrLow, high: apic.msrHigh, fault: 0 };
      case 'wrmsr':
        return apic.writeMsr(address, low, high) ? NOTHING : FAULT;
      case 'read-cr8':
        return { low: apic.cr8, high: 0, fault: 0 };
      case 'write-cr8':
        if ((low & CR8_RESERVED) !== 0 || high !== 0) return FAULT;
        apic.setCr8(low);
        return NOTHING;
      case 'window':
        this.#open(cpu, size, position);
        return NOTHING;
      case 'read-tsc':
        this.allowed.set(position, 'any');
        return NOTHING;
      case 'wait':
        this.#now += (low / (this.#options.tscKhz ?? 1_000_000)) * 1e6;
        return NOTHING;
      default:
        return NOTHING;
    }
  }

  /** A whole access inside the page is the page's; one that only starts in it reaches it in part, low address first. */
  #read(cpu: ModelCpu, address: number, size: number, position: number): OperationResult {
    const { apic } = cpu;
    const offset = pageOffset(apic, address);
    if (offset < 0) return { ...cut(0xffffffff, 0xffffffff, size), fault: 0 };
    const low = apic.readMmio(offset, size);
    if (!apic.mmioDefined) this.allowed.set(position, 'any');
    else if ((offset & ~0xf) === REG.TMCCT && apic.mmioEnabled()) {
      if (size === 4) return this.#count(cpu, low, position);
      this.allowed.set(position, 'any');
    }
    return { ...cut(low, apic.mmioHigh, size), fault: 0 };
  }

  /** A reading of the current count. */
  #count(cpu: ModelCpu, count: number, position: number): OperationResult {
    const allowed = allowedCount(cpu, count);
    this.allowed.set(position, allowed);
    return { low: allowed.most, high: 0, fault: 0 };
  }

  #write(apic: LocalApic, address: number, size: number, value: number): void {
    const offset = pageOffset(apic, address);
    if (offset >= 0) apic.writeMmio(offset, size, value);
  }

  /** Interrupts on: everything that can be taken is, one handler after the other. */
  #open(cpu: ModelCpu, flags: number, position: number): void {
    const { apic, taken } = cpu;
    for (let vector = apic.acknowledge(); vector >= 0; vector = apic.acknowledge()) {
      this.observer.took?.('interrupt');
      taken.push({ vector: EXCEPTIONS_WITH_CODE.has(vector) ? vector + 1 : vector, position });
      if ((flags & NO_EOI) !== 0) continue;
      if ((apic.apicBaseLow & BASE.EXTD) !== 0) apic.writeMsr(MSR.X2APIC_FIRST + (REG.EOI >> 4), 0, 0);
      else this.#write(apic, ((apic.apicBaseLow & 0xfffff000) | REG.EOI) >>> 0, 4, 0);
    }
  }

  #takeNmis({ apic, taken }: ModelCpu, position: number): void {
    for (let nmis = Math.min(apic.takeNmis(), NMI_LIMIT); nmis > 0; nmis--) {
      this.observer.took?.('NMI');
      taken.push({ vector: NMI, position });
    }
  }

  #noteCount(cpu: ModelCpu): void {
    const page = new DataView(cpu.apic.getState().buffer);
    const ticks = page.getUint32(REG.TMCCT, true);
    const deadline = cpu.apic.timerDeadlineNanos();
    const divisor = timerDivisor(page.getUint32(REG.TDCR, true));
    cpu.fastest = Math.min(cpu.fastest, divisor);
    // A count is taken modulo the period, so it reads as 0 while no time has gone by at all.
    if (ticks !== 0) cpu.count = ticks;
    else cpu.count = deadline === Number.POSITIVE_INFINITY ? undefined : Math.ceil((deadline - this.#now) / divisor);
  }

  #expire({ apic }: ModelCpu): void {
    if (apic.timerDeadlineNanos() > this.#now) return;
    apic.expireTimer(this.#now);
    this.observer.took?.('timer interrupt');
  }

  /** @param sender the CPU of an operation that can start CPUs, which takes its own INIT half-way through it */
  #settleAll(position: number, sender: number): void {
    const order = [...this.#cpus.keys()].filter((i) => i !== sender);
    for (const i of sender < 0 ? order : [sender, ...order]) {
      const cpu = this.#cpu(i);
      if (!cpu.apic.hasEvents()) continue;
      const events = cpu.apic.takeEvents(!cpu.runs);
      if ((events & APIC_EVENT.INIT) !== 0) {
        if (cpu.runs) this.#events.push(`cpu ${i}: INIT by operation ${position + 1}`);
        this.observer.took?.('INIT');
        cpu.apic.reset(true);
        cpu.runs = (cpu.apic.apicBaseLow & BASE.BSP) !== 0; // kvm_vcpu_is_bsp: what its APIC base says
      }
      if ((events & APIC_EVENT.SIPI) !== 0 && !cpu.runs) {
        this.#events.push(`cpu ${i}: SIPI ${cpu.apic.sipiVector} by operation ${position + 1}`);
        this.observer.took?.('SIPI');
        cpu.runs = true;
      }
    }
  }
}

const NOTHING: OperationResult = { low: 0, high: 0, fault: 0 };
const FAULT: OperationResult = { low: 0, high: 0, fault: GP };

/** What the current count may read as, if it is `read` as long as no time goes by. */
function allowedCount({ apic, count, fastest }: ModelCpu, read: number): Count {
  const page = new DataView(apic.getState().buffer);
  if (
    page.getUint32(REG.TMICT, true) === 0 ||
    (page.getUint32(REG.LVT_TIMER, true) & TIMER_MODE.MASK) === TIMER_MODE.TSC_DEADLINE
  ) {
    return { least: read, most: read };
  }
  if (count === undefined) return { least: 0, most: 0xffffffff }; // run out, or about to start
  // A count that is short may have run out since, or begun anew.
  const slow = SLOW_NANOS / fastest;
  return { least: Math.max(0, Math.floor(count - slow)), most: count };
}

/** Offset of a guest-physical address in the APIC's page, or -1. */
function pageOffset(apic: LocalApic, address: number): number {
  const offset = (address >>> 0) - apic.pageAddress;
  return offset >= 0 && offset < PAGE_BYTES && address < TOP_OF_MEMORY ? offset : -1;
}

function cut(low: number, high: number, size: number): { low: number; high: number } {
  const mask = size >= 4 ? 0xffffffff : 2 ** (size * 8) - 1;
  return { low: (low & mask) >>> 0, high: size > 4 ? high >>> 0 : 0 };
}
