/**
 * One local APIC, its owner's half: the doors a guest and a run loop use. Only the thread that runs the vCPU calls these
 * (getState, snapshot and the getters may be called elsewhere while that thread is not running it).
 *
 * It turns the decisions of core.ts into effects: IPIs are routed, EOIs reported, the map rebuilt, all before the call
 * returns. Nothing here throws for what a guest does: a refused access answers false, which is #GP.
 */
import { resetRegisters, setBase } from './base.ts';
import type { ApicBehaviour } from './behaviour.ts';
import { ACTION, ApicCore } from './core.ts';
import {
  type ApicMode,
  BASE,
  baseAddressLow,
  baseMode,
  commandVector,
  ipiCommand,
  isLvtMasked,
  modeName,
  SPIV,
  tprToCr8,
  xapicDestination,
} from './fields.ts';
import type { ApicHost } from './host.ts';
import { type ApicMemory, type BlockWord, CONTROL, INBOX } from './layout.ts';
import type { ApicMap } from './map.ts';
import { APIC_EVENT, type ApicPort } from './port.ts';
import { MSR, msrOffset, PAGE_BYTES, REG, STATE_BYTES } from './registers.ts';
import { type LocalApicState, restoreState, saveState } from './saved-state.ts';
import { COUNTER, type LocalApicSnapshot, takeSnapshot } from './snapshot.ts';
import { LocalSources } from './sources.ts';
import { readState, writeState } from './state.ts';
import { ApicTimer } from './timer.ts';

/** What a LocalApic needs of its system. */
export interface ApicServices {
  readonly memory: ApicMemory;
  readonly host: ApicHost;
  readonly behaviour: ApicBehaviour;
  readonly map: ApicMap;
  readonly port: ApicPort;
  /** Routes a message (message.ts). */
  send(source: number, destination: number, command: number): number;
}

/**
 * One local APIC, its owner's half: the doors that a guest and a run loop use. Only the thread that runs the vCPU
 * calls these; `getState`, `snapshot` and the getters also others, while that thread is not running it. IPIs are
 * routed, EOIs reported and the map rebuilt before a call returns. Nothing here throws for what a guest does: a
 * refused access answers false, which is #GP.
 */
export class LocalApic {
  readonly vcpuIndex: number;
  /** KVM's vcpu_id: the x2APIC ID. What a guest in xAPIC mode sees is its low byte, or what it wrote over it. */
  readonly apicId: number;
  /** Result of the last readMsr or (upper half) 8-byte readMmio, unsigned. */
  msrLow = 0;
  msrHigh = 0;
  mmioHigh = 0;
  /** False if the last readMmio met no register: KVM then leaves the guest's buffer as it was. */
  mmioDefined = true;

  readonly #system: ApicServices;
  readonly #core: ApicCore;
  readonly #timer: ApicTimer;
  readonly #sources: LocalSources;
  readonly #words: Int32Array;
  readonly #a: BlockWord;
  #handledVectors: Int32Array | null = null;

  constructor(system: ApicServices, vcpuIndex: number) {
    this.#system = system;
    this.vcpuIndex = vcpuIndex;
    this.#timer = new ApicTimer(system, vcpuIndex);
    this.#core = new ApicCore(system.memory, system.map, this.#timer, vcpuIndex);
    this.#sources = new LocalSources(this.#core, system.port, vcpuIndex);
    this.#words = system.memory.words;
    this.#a = this.#core.a;
    this.apicId = this.#core.apicId;
  }

  /** As `reset(false)` with the map left dirty: for an APIC that is not yet in it. */
  powerUp(): void {
    resetRegisters(this.#core, false);
  }

  /** Power-up (false), or INIT (true), which keeps APIC base, mode and ID. */
  reset(initEvent: boolean): void {
    resetRegisters(this.#core, initEvent);
    this.#system.map.recalculate();
  }

  // IA32_APIC_BASE

  /** IA32_APIC_BASE bits 31:0, unsigned. */
  get apicBaseLow(): number {
    return this.#words[this.#a + CONTROL.BASE_LOW] >>> 0;
  }

  /** IA32_APIC_BASE bits 63:32, unsigned. */
  get apicBaseHigh(): number {
    return this.#words[this.#a + CONTROL.BASE_HIGH] >>> 0;
  }

  /** IA32_APIC_BASE, all 64 bits. */
  apicBase(): bigint {
    return (BigInt(this.apicBaseHigh) << 32n) | BigInt(this.apicBaseLow);
  }

  /** The BSP flag, which a guest may write: what decides whether an INIT restarts this CPU or parks it (kvm_vcpu_is_bsp). */
  get isBootProcessor(): boolean {
    return (this.apicBaseLow & BASE.BSP) !== 0;
  }

  /** The mode that IA32_APIC_BASE says. */
  get mode(): ApicMode {
    return modeName(baseMode(this.apicBaseLow));
  }

  /** Where the register page is, as a guest-physical address. Exact up to 2^53. */
  get pageAddress(): number {
    return this.apicBaseHigh * 2 ** 32 + baseAddressLow(this.apicBaseLow);
  }

  /**
   * A guest's write to IA32_APIC_BASE.
   * @returns false for #GP: reserved bits, an invalid mode, x2APIC to xAPIC, or disabled to x2APIC; nothing has changed then
   */
  setApicBase(low: number, high: number): boolean {
    return this.#setBase(low, high, false);
  }

  /** The host's write (KVM_SET_MSRS, KVM_SET_SREGS): every valid mode may follow every other. False: KVM refuses it. */
  setApicBaseFromHost(low: number, high: number): boolean {
    return this.#setBase(low, high, true);
  }

  #setBase(low: number, high: number, fromHost: boolean): boolean {
    if (!setBase(this.#core, low, high, fromHost)) return this.#fault();
    this.#tell('APIC_BASE', low);
    this.#system.map.recalculate();
    return true;
  }

  // xAPIC: the register page

  /** True while the page answers: enabled and not in x2APIC mode. */
  mmioEnabled(): boolean {
    return this.#core.present && !this.#core.x2apicMode;
  }

  /**
   * A read of the APIC page.
   * @param offset 0-0xfff, from the start of the page
   * @param length 1, 2, 4 or 8 bytes
   * @returns the low four bytes, unsigned; `mmioHigh` has the upper four. All ones while the page does not answer. 0, with
   *   `mmioDefined` false, where there is no register or the read crosses its four bytes
   */
  readMmio(offset: number, length: number): number {
    const core = this.#core;
    this.mmioDefined = true;
    this.mmioHigh = 0;
    if (!this.mmioEnabled() && core.rules.mmioHole) {
      this.mmioHigh = length > 4 ? 0xffffffff : 0;
      return ones(length);
    }
    const shift = offset & 0xf;
    const register = offset - shift;
    if (shift + length > 4 || offset > REG.SELF_IPI || !core.readable(register)) {
      this.mmioDefined = false;
      return 0;
    }
    return ((core.read(register) >>> (shift * 8)) & ones(length)) >>> 0;
  }

  /** A write to the APIC page. Anything but four bytes on a 16-byte boundary does nothing, nor does a page that is off. */
  writeMmio(offset: number, length: number, value: number): void {
    const core = this.#core;
    if (!this.mmioEnabled()) return;
    if ((length !== 4 || (offset & 0xf) !== 0) && core.rules.mmioAlignment) return;
    const register = offset & (PAGE_BYTES - 1) & ~0xf;
    this.#finish(this.#write(register, value | 0));
  }

  // x2APIC and the other MSRs

  /**
   * RDMSR of 0x1b, 0x6e0 or 0x800-0x8ff; the result is in `msrLow` and `msrHigh`.
   * @returns false for #GP: no such register, not readable, or not in x2APIC mode
   */
  readMsr(msr: number): boolean {
    const core = this.#core;
    this.msrHigh = 0;
    if (msr === MSR.APIC_BASE) {
      this.msrLow = this.apicBaseLow;
      this.msrHigh = this.apicBaseHigh;
      return true;
    }
    if (msr === MSR.TSC_DEADLINE) {
      const answers = this.#deadlineAnswers();
      this.msrLow = answers ? this.#timer.deadlineLow : 0;
      this.msrHigh = answers ? this.#timer.deadlineHigh : 0;
      return true;
    }
    if (!isX2apicMsr(msr) || !core.x2apicMode) return this.#fault();
    const register = msrOffset(msr);
    if (register === REG.ICR) {
      this.msrLow = core.register(REG.ICR) >>> 0;
      this.msrHigh = this.#words[core.icrHighWord] >>> 0;
      return true;
    }
    if (!core.readable(register)) return this.#fault();
    this.msrLow = core.read(register);
    return true;
  }

  /** WRMSR of 0x1b, 0x6e0 or 0x800-0x8ff. False for #GP; the APIC is unchanged then. */
  writeMsr(msr: number, low: number, high: number): boolean {
    const core = this.#core;
    if (msr === MSR.APIC_BASE) return this.setApicBase(low, high);
    if (msr === MSR.TSC_DEADLINE) {
      if (this.#deadlineAnswers()) this.#timer.writeDeadline(low | 0, high | 0);
      return true;
    }
    if (!isX2apicMsr(msr) || !core.x2apicMode) return this.#fault();
    const register = msrOffset(msr);
    if (register === REG.ICR) return this.#finish(core.writeWideIcr(low | 0, high | 0));
    if (high !== 0 && core.rules.highWordReserved) return this.#fault();
    return this.#finish(this.#write(register, low | 0));
  }

  #deadlineAnswers(): boolean {
    return this.#core.present && (this.#timer.inDeadlineMode || !this.#core.rules.deadlineMode);
  }

  // Priority and service

  /** CR8 as the guest reads it: TPR bits 7:4, 0-15 (SDM vol. 3A, 12.8.6.1). */
  get cr8(): number {
    return tprToCr8(this.#core.register(REG.TPR));
  }

  /** CR8 bits 3:0 become TPR bits 7:4. The caller has refused reserved bits with #GP. */
  setCr8(value: number): void {
    this.#core.setTprFromCr8(value);
  }

  /** The vector that the vCPU may take now, or -1. Updates PPR. */
  pendingVector(): number {
    if (this.#timer.pending) this.#sources.deliverTimer();
    return this.#core.present ? this.#core.priority.pending() : -1;
  }

  /** The highest vector in IRR, whether or not its priority lets it through, or -1. */
  highestRequested(): number {
    return this.#core.priority.highestRequested();
  }

  /** True if something waits in IRR that only the priority holds back: the run loop then has to notice when TPR falls. */
  isBlockedByTpr(): boolean {
    return this.#core.present && this.highestRequested() >= 0 && this.#core.priority.pending() < 0;
  }

  /** Takes the pending vector: from IRR to ISR. -1 if there is none. */
  acknowledge(): number {
    const vector = this.pendingVector();
    if (vector < 0) return -1;
    this.#core.priority.begin(vector);
    this.#count(COUNTER.ACKNOWLEDGED);
    return vector;
  }

  /**
   * Whether the guest's next EOI changes nothing that anybody waits for, so that it may come late (PV EOI,
   * apic_sync_pv_eoi_to_guest): nothing is in IRR, and the interrupt in service is the one taken last, which no I/O APIC
   * wants to hear of.
   */
  mayEndInSilence(): boolean {
    const { priority } = this.#core;
    const vector = priority.cachedInService();
    return vector >= 0 && priority.highestRequested() < 0 && !this.#wantsEoi(vector);
  }

  /** As a write to the EOI register. */
  eoi(): void {
    this.#finish(this.#core.endOfInterrupt());
  }

  // What senders left. Plain loads tell whether there is anything, as in `highestVector`.

  /** Whether an NMI waits to be taken. */
  hasNmi(): boolean {
    return this.#words[this.#a + INBOX.NMIS] !== 0;
  }

  /** NMIs since the last call. A CPU keeps two at most: one in service and one pending. */
  takeNmis(): number {
    return this.hasNmi() ? Atomics.exchange(this.#words, this.#a + INBOX.NMIS, 0) : 0;
  }

  /**
   * How many NMIs KVM_GET_VCPU_EVENTS tells of (kvm_vcpu_ioctl_x86_get_vcpu_events).
   * @param pending the CPU has, 0 to 2
   */
  nmisInState(pending: number): number {
    return this.#core.rules.everyNmiKept ? pending : Math.min(pending, 1);
  }

  /** Takes what waits. @returns how many SMIs, 0 or more */
  takeSmis(): number {
    return Atomics.exchange(this.#words, this.#a + INBOX.SMIS, 0);
  }

  /** Whether an INIT or a SIPI waits to be taken. */
  hasEvents(): boolean {
    return this.#words[this.#a + INBOX.EVENTS] !== 0;
  }

  /**
   * Takes the pending INIT, SIPI and unhalt (bits of APIC_EVENT). The caller does what kvm_apic_accept_events does: with
   * INIT, `reset(true)` and the vCPU waits for SIPI (the boot CPU starts again at its reset vector instead); then with
   * SIPI it starts at `sipiVector`. Unhalt ends a HLT.
   * @param waitsForSipi is the vCPU in wait-for-SIPI? If not, a SIPI without an INIT is dropped here
   */
  takeEvents(waitsForSipi = true): number {
    const events = Atomics.exchange(this.#words, this.#a + INBOX.EVENTS, 0);
    return waitsForSipi || (events & APIC_EVENT.INIT) !== 0 ? events : events & ~APIC_EVENT.SIPI;
  }

  /**
   * kvm_apic_accept_events: takes a pending INIT and SIPI, and with INIT resets.
   * @param waitsForSipi is the vCPU in wait-for-SIPI?
   * @returns bits of APIC_EVENT. `INIT`: it was reset, and starts again at its reset vector if it `isBootProcessor`, else it
   *   waits for a SIPI from now on; `SIPI`: it starts at `sipiVector`; `UNHALT`: a HLT ends
   */
  acceptEvents(waitsForSipi: boolean): number {
    const events = this.takeEvents(waitsForSipi);
    if ((events & APIC_EVENT.INIT) === 0) return events;
    this.reset(true);
    return this.isBootProcessor ? events & ~APIC_EVENT.SIPI : events;
  }

  /** Puts events back, as a restored state has them (KVM_SET_VCPU_EVENTS latched INIT, a pending SIPI). */
  postEvents(events: number, sipiVector = 0): void {
    Atomics.store(this.#words, this.#a + INBOX.SIPI_VECTOR, sipiVector);
    Atomics.or(this.#words, this.#a + INBOX.EVENTS, events);
  }

  /** The start page of the last SIPI: CS selector is this << 8. Read it after takeEvents. */
  get sipiVector(): number {
    return Atomics.load(this.#words, this.#a + INBOX.SIPI_VECTOR);
  }

  // Timer

  /** When `expireTimer` wants to be called, in the host's nanoseconds, or Infinity. Ask again after every register write. */
  timerDeadlineNanos(): number {
    return this.#timer.deadlineNanos();
  }

  /** The clock reached `nowNanos`. Does nothing before the deadline. */
  expireTimer(nowNanos: number): void {
    if (!this.#timer.expire(nowNanos)) return;
    this.#count(COUNTER.TIMER_EXPIRIES);
    const { trace } = this.#system.host;
    if (trace !== null) {
      const entry = this.#core.register(REG.LVT_TIMER);
      trace.event({
        kind: 'timer',
        vcpuIndex: this.vcpuIndex,
        vector: commandVector(entry),
        masked: isLvtMasked(entry),
      });
    }
    this.#sources.deliverTimer();
  }

  // Local interrupt sources

  /** An event of an LVT entry, by its register offset (REG.LVT_...). Returns 1 if it was delivered, else 0. */
  deliverLocal(lvtOffset: number): number {
    return this.#sources.deliver(lvtOffset);
  }

  /** Does a PIC's INTR reach this CPU: LINT0 unmasked as ExtINT, or the APIC off (kvm_apic_accept_pic_intr). */
  acceptsPic(): boolean {
    return this.#sources.acceptsPic();
  }

  /** LINT0 as the NMI watchdog's input (kvm_apic_nmi_wd_deliver). */
  deliverLint0(): number {
    return this.#sources.deliver(REG.LVT_LINT0);
  }

  /** LINT1's input: an NMI, as the BIOS leaves it. @returns as `deliverLint0` */
  deliverLint1(): number {
    return this.#sources.deliver(REG.LVT_LINT1);
  }

  /**
   * Which vectors' EOIs I/O APICs want (KVM's ioapic_handled_vectors): eight words, bit v & 31 of word v >> 5. Null
   * (the start): those whose TMR bit says level-triggered.
   */
  setHandledVectors(bitmap: Int32Array | null): void {
    this.#handledVectors = bitmap;
  }

  // State

  /** KVM_GET_LAPIC: 1,024 bytes, into `bytes` or a new array. Throws RangeError for a shorter array. */
  getState(bytes: Uint8Array = new Uint8Array(STATE_BYTES)): Uint8Array {
    checkLength(bytes);
    readState(this.#core, bytes);
    return bytes;
  }

  /**
   * KVM_SET_LAPIC.
   * @returns false for -EINVAL: gate on, x2APIC mode, and an ID that is not this APIC's (SPIV has changed then, as in KVM)
   * @throws RangeError for fewer than 1,024 bytes
   */
  setState(bytes: Uint8Array): boolean {
    checkLength(bytes);
    const accepted = writeState(this.#core, bytes);
    this.#system.map.recalculate();
    return accepted;
  }

  /** Everything that a later access can tell, as JSON can carry it; times are relative to now. While nobody sends. */
  save(): LocalApicState {
    return saveState(this.#core, this.#system.host.nowNanos());
  }

  /**
   * Goes on where `save` of an APIC with this ID was, of whichever system with the same options and at whatever time. Wakes
   * nobody; the map is rebuilt. What is not in it: which EOIs I/O APICs want (`setHandledVectors`), which they say again.
   * @throws RangeError for the state of another APIC ID
   */
  restore(state: LocalApicState): void {
    restoreState(this.#core, state, this.#system.host.nowNanos());
    this.#system.map.recalculate();
  }

  /** A readable copy of everything, for people. Any thread; not atomic against the owner. */
  snapshot(): LocalApicSnapshot {
    return takeSnapshot(this.#core, this.#timer, this.vcpuIndex);
  }

  // From decisions to effects

  #finish(action: number): boolean {
    switch (action) {
      case ACTION.FAULT:
        return this.#fault();
      case ACTION.IPI:
        this.#sendIpi();
        break;
      case ACTION.EOI:
        this.#count(COUNTER.EOIS);
        this.#system.host.trace?.event({ kind: 'eoi', vcpuIndex: this.vcpuIndex, vector: this.#core.endedVector });
        this.#reportEoi(this.#core.endedVector);
        break;
      default:
        break;
    }
    this.#system.map.recalculate();
    if (this.#timer.pending) this.#sources.deliverTimer();
    return true;
  }

  #sendIpi(): void {
    const { ipiLow, ipiHigh, x2apicMode } = this.#core;
    this.#count(COUNTER.IPIS);
    this.#system.send(this.vcpuIndex, x2apicMode ? ipiHigh >>> 0 : xapicDestination(ipiHigh), ipiCommand(ipiLow));
  }

  #reportEoi(vector: number): void {
    if (this.#wantsEoi(vector) && !this.#eoiSuppressed()) this.#system.host.eoi(this.vcpuIndex, vector);
  }

  /** kvm_ioapic_handles_vector. */
  #wantsEoi(vector: number): boolean {
    const handled = this.#handledVectors;
    if (handled === null) return this.#core.isLevelTriggered(vector);
    return (handled[vector >>> 5] & (1 << (vector & 31))) !== 0;
  }

  /** kvm_lapic_respect_suppress_eoi_broadcast: with the quirk, a split irqchip offers suppression and does not do it. */
  #eoiSuppressed(): boolean {
    const { suppressEoiBroadcast, ioapicInKernel } = this.#system.memory.options;
    const respected = suppressEoiBroadcast === 'quirk' ? ioapicInKernel : suppressEoiBroadcast === 'enabled';
    return respected && (this.#core.register(REG.SPIV) & SPIV.SUPPRESS_EOI_BROADCAST) !== 0;
  }

  #write(register: number, value: number): number {
    const action = this.#core.write(register, value);
    if (this.#system.host.trace !== null && action !== ACTION.FAULT)
      this.#tell(IDENTITY_REGISTERS.get(register), value);
    return action;
  }

  /** Tells the observer of what others may see of this APIC. */
  #tell(register: string | undefined, value: number): void {
    const { trace } = this.#system.host;
    if (trace !== null && register !== undefined) {
      trace.event({ kind: 'register', vcpuIndex: this.vcpuIndex, register, value: value >>> 0 });
    }
  }

  #fault(): boolean {
    this.#count(COUNTER.FAULTS);
    return false;
  }

  #count(counter: number): void {
    this.#words[this.#a + CONTROL.COUNTERS + counter]++;
  }
}

/** The registers that others route by. */
const IDENTITY_REGISTERS: ReadonlyMap<number, string> = new Map([
  [REG.ID, 'ID'],
  [REG.LDR, 'LDR'],
  [REG.DFR, 'DFR'],
  [REG.SPIV, 'SVR'],
]);

const isX2apicMsr = (msr: number): boolean => msr >= MSR.X2APIC_FIRST && msr <= MSR.X2APIC_LAST;

/** All ones in `length` bytes, up to four, unsigned. */
const ones = (length: number): number => (length >= 4 ? 0xffffffff : 2 ** (length * 8) - 1);

function checkLength(bytes: Uint8Array): void {
  if (bytes.length < STATE_BYTES) throw new RangeError(`an APIC state has ${STATE_BYTES} bytes, not ${bytes.length}`);
}

export { APIC_EVENT };
