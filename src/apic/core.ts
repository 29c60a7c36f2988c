/**
 * The registers of one APIC: what a read answers and what a write does, as decisions. No routing, no host calls but for the
 * time: an IPI or an EOI that results is returned, and local-apic.ts carries it out. Only the owner's thread runs this.
 *
 * Rules: kvm_lapic_reg_read, kvm_lapic_reg_write, kvm_x2apic_icr_write, kvm_lapic_reset, __kvm_apic_set_base,
 * kvm_apic_set_base and the PPR/ISR code of arch/x86/kvm/lapic.c; SDM vol. 3A, chapter 12. Where they differ: README.md.
 */
import {
  BASE,
  baseMode,
  cr8ToTpr,
  DFR,
  ICR,
  isLvtMasked,
  LVT,
  MODE,
  makeVersion,
  makeXapicId,
  priorityClass,
  SPIV,
  VERSION,
  x2apicLogicalId,
} from './fields.ts';
import { publishIdentity } from './identity.ts';
import { type ApicMemory, CONTROL, HEADER, IDENTITY, INBOX } from './layout.ts';
import type { ApicMap } from './map.ts';
import { isReadable, LVT_OFFSETS, maskWrite, REG, registerIndex } from './registers.ts';
import type { Rules } from './rules.ts';
import type { ApicTimer } from './timer.ts';
import {
  clearVector,
  countVectors,
  hasVector,
  highestVector,
  listVectors,
  setVector,
  shareClearVector,
} from './vectors.ts';

/** What a write asks for. */
export const ACTION = { NONE: 0, FAULT: 1, IPI: 2, EOI: 3 } as const;

const word = (offset: number): number => offset >>> 2;
const ISR = word(REG.ISR);
const TMR = word(REG.TMR);
const IRR = word(REG.IRR);
const TPR = word(REG.TPR);
const PPR = word(REG.PPR);
const ICR_LOW = word(REG.ICR);
const ICR_HIGH = word(REG.ICR2);
const LVT_ENTRIES_WITHOUT_CMCI = 6;

export class ApicCore {
  /** The IPI that ACTION.IPI asks for: ICR halves, the destination in the format of the APIC's mode. */
  ipiLow = 0;
  ipiHigh = 0;
  /** The vector that ACTION.EOI is about. */
  endedVector = -1;

  readonly memory: ApicMemory;
  readonly words: Int32Array;
  readonly rules: Readonly<Rules>;
  readonly map: ApicMap;
  readonly timer: ApicTimer;
  /** KVM's vcpu_id, the x2APIC ID. */
  readonly apicId: number;
  /** First word of the block. */
  readonly a: number;
  /** First word of the identity record. */
  readonly #r: number;

  constructor(memory: ApicMemory, map: ApicMap, timer: ApicTimer, vcpuIndex: number) {
    this.memory = memory;
    this.words = memory.words;
    this.rules = memory.rules;
    this.map = map;
    this.timer = timer;
    this.a = memory.block(vcpuIndex);
    this.#r = memory.identity(vcpuIndex);
    this.apicId = memory.words[this.#r + IDENTITY.APIC_ID];
  }

  get present(): boolean {
    return (this.words[this.a + CONTROL.BASE_LOW] & BASE.ENABLE) !== 0;
  }

  get x2apicMode(): boolean {
    return (this.words[this.a + CONTROL.BASE_LOW] & BASE.EXTD) !== 0;
  }

  get softwareEnabled(): boolean {
    return (this.register(REG.SPIV) & SPIV.ENABLE) !== 0;
  }

  get lvtEntries(): number {
    return this.memory.options.cmci ? LVT_ENTRIES_WITHOUT_CMCI + 1 : LVT_ENTRIES_WITHOUT_CMCI;
  }

  register(offset: number): number {
    return this.words[this.a + word(offset)];
  }

  setRegister(offset: number, value: number): void {
    this.words[this.a + word(offset)] = value;
  }

  /** A register that others route by has changed: tell them, then mark the map dirty. In this order. */
  identityChanged(): void {
    const { words, a } = this;
    const at = (offset: number): number => words[a + word(offset)];
    publishIdentity(words, this.#r, words[a + CONTROL.BASE_LOW], at(REG.ID), at(REG.LDR), at(REG.DFR), at(REG.SPIV));
    this.map.markDirty();
  }

  // Reads

  /** May `offset` (16-byte aligned) be read in this mode? */
  readable(offset: number): boolean {
    if (offset > REG.SELF_IPI || !isReadable(registerIndex(offset), this.x2apicMode)) return false;
    return offset !== REG.LVT_CMCI || this.memory.options.cmci;
  }

  /** The value of a readable register, unsigned. */
  read(offset: number): number {
    switch (offset) {
      case REG.APR:
        return 0;
      case REG.TMCCT:
        return this.timer.currentCount();
      case REG.PPR:
        this.updatePpr();
        return this.register(offset) >>> 0;
      default:
        return this.register(offset) >>> 0;
    }
  }

  /** The upper half of ICR in x2APIC mode, which is where the vendor module keeps it. */
  get icrHighWord(): number {
    return this.a + (this.memory.options.x2apicIcrSplit ? ICR_HIGH : ICR_LOW + 1);
  }

  // Writes

  /** A 32-bit write; `offset` is 16-byte aligned. Not for ICR in x2APIC mode. Returns an ACTION. */
  write(offset: number, value: number): number {
    const rules = this.rules;
    const x2apic = this.x2apicMode;
    const kept = rules.writableBits ? maskWrite(registerIndex(offset), value) : value;
    switch (offset) {
      case REG.ID:
        if (x2apic) return this.#refuse();
        return this.#identify(REG.ID, maskWrite(registerIndex(offset), value));
      case REG.LDR:
      case REG.DFR:
        if (x2apic) return this.#refuse();
        return this.#identify(offset, kept);
      case REG.TPR:
        this.words[this.a + TPR] = kept;
        this.updatePpr();
        return ACTION.NONE;
      case REG.EOI:
        return this.endOfInterrupt();
      case REG.SPIV:
        return this.#writeSpurious(value, kept);
      case REG.ICR:
        this.ipiLow = rules.icrBusyCleared ? value & ~ICR.BUSY : value;
        this.ipiHigh = this.words[this.a + ICR_HIGH];
        this.words[this.a + ICR_LOW] = this.ipiLow;
        return ACTION.IPI;
      case REG.ICR2:
        if (x2apic) return this.#refuse();
        this.words[this.a + ICR_HIGH] = rules.icr2TopByte ? maskWrite(registerIndex(offset), value) : value;
        return ACTION.NONE;
      case REG.LVT_CMCI:
        if (!this.memory.options.cmci) return this.#refuse();
        return this.#writeLvt(offset, kept);
      case REG.LVT_THERMAL:
      case REG.LVT_PERFORMANCE:
      case REG.LVT_LINT0:
      case REG.LVT_LINT1:
      case REG.LVT_ERROR:
        return this.#writeLvt(offset, kept);
      case REG.LVT_TIMER:
        this.#writeLvt(offset, kept | (value & this.timer.modeMask));
        this.timer.updateMode();
        return ACTION.NONE;
      case REG.TMICT:
        this.timer.writeInitialCount(value);
        return ACTION.NONE;
      case REG.TDCR:
        this.timer.writeDivide(value);
        return ACTION.NONE;
      case REG.ESR: // no error is ever recorded, so there is nothing to latch
        return x2apic && value !== 0 && rules.esrZero ? ACTION.FAULT : ACTION.NONE;
      case REG.SELF_IPI:
        if (!x2apic) return this.#refuse();
        if (kept !== value && rules.selfIpiReserved) return ACTION.FAULT;
        this.ipiLow = ICR.SELF | kept;
        this.ipiHigh = 0;
        return ACTION.IPI;
      default:
        return this.#refuse();
    }
  }

  /** ICR in x2APIC mode: one 64-bit register (SDM vol. 3A, 12.12.9). Returns an ACTION. */
  writeWideIcr(low: number, high: number): number {
    if ((low & ICR.X2APIC_RESERVED) !== 0 && this.rules.icrReserved) return ACTION.FAULT;
    this.ipiLow = this.rules.icrBusyCleared ? low & ~ICR.BUSY : low;
    this.ipiHigh = high;
    this.words[this.a + ICR_LOW] = this.ipiLow;
    this.words[this.icrHighWord] = high;
    return ACTION.IPI;
  }

  #refuse(): number {
    return this.rules.readOnlyFaults ? ACTION.FAULT : ACTION.NONE;
  }

  #identify(offset: number, value: number): number {
    this.setRegister(offset, value);
    this.identityChanged();
    return ACTION.NONE;
  }

  #writeSpurious(value: number, kept: number): number {
    const suppression = (this.register(REG.VERSION) & VERSION.EOI_SUPPRESSION) !== 0 ? SPIV.SUPPRESS_EOI_BROADCAST : 0;
    this.setSpurious(kept | (value & suppression));
    if ((value & SPIV.ENABLE) === 0) {
      if (this.rules.disableMasksLvts) this.#maskLvts();
      this.timer.updateMode();
      this.timer.clearPending();
    }
    return ACTION.NONE;
  }

  /** apic_set_spiv: the map changes with the enable bit only. */
  setSpurious(value: number): void {
    const before = this.softwareEnabled;
    this.setRegister(REG.SPIV, value);
    if (this.softwareEnabled !== before) this.identityChanged();
  }

  #writeLvt(offset: number, kept: number): number {
    const masked = this.softwareEnabled || !this.rules.disableMasksLvts ? 0 : LVT.MASKED;
    this.setRegister(offset, kept | masked);
    return ACTION.NONE;
  }

  #maskLvts(): void {
    for (let i = 0; i < this.lvtEntries; i++) this.maskLvt(LVT_OFFSETS[i]);
  }

  maskLvt(offset: number): void {
    this.setRegister(offset, this.register(offset) | LVT.MASKED);
  }

  // Priority

  /** __apic_update_ppr: PPR from TPR and the highest vector in service. Returns the new PPR. */
  updatePpr(): number {
    const tpr = this.words[this.a + TPR];
    const inService = this.highestInService();
    const service = inService < 0 ? 0 : priorityClass(inService);
    const ppr = priorityClass(tpr) >= service ? tpr & 0xff : service;
    this.words[this.a + PPR] = ppr;
    return ppr;
  }

  /** Highest vector in ISR or -1, through KVM's cache of it, which setState leaves stale for one PPR update. */
  highestInService(): number {
    const words = this.words;
    if (!this.rules.isrCache) return highestVector(words, this.a + ISR);
    if (words[this.a + CONTROL.ISR_COUNT] === 0) return -1;
    const cached = words[this.a + CONTROL.ISR_HIGHEST];
    return cached >= 0 ? cached : highestVector(words, this.a + ISR);
  }

  /** kvm_apic_update_apicv: forget the cache, count again. With APICv active KVM keeps none. */
  recountInService(): void {
    const { words, a } = this;
    words[a + CONTROL.ISR_COUNT] = this.memory.options.apicv ? 1 : countVectors(words, a + ISR);
    words[a + CONTROL.ISR_HIGHEST] = -1;
  }

  highestRequested(): number {
    return highestVector(this.words, this.a + IRR);
  }

  /** kvm_apic_has_interrupt: the vector that may be taken now, or -1. */
  pendingVector(): number {
    if (!this.present) return -1;
    const ppr = this.updatePpr();
    const vector = this.highestRequested();
    if (vector < 0 || (priorityClass(vector) <= ppr && this.rules.priorityClass)) return -1;
    return vector;
  }

  /** kvm_apic_ack_interrupt: from IRR to ISR. */
  beginService(vector: number): void {
    const { words, a } = this;
    shareClearVector(words, a + IRR, vector);
    if (!hasVector(words, a + ISR, vector)) {
      setVector(words, a + ISR, vector);
      if (!this.memory.options.apicv) {
        words[a + CONTROL.ISR_COUNT]++;
        words[a + CONTROL.ISR_HIGHEST] = vector;
      }
    }
    this.updatePpr();
  }

  /** apic_set_eoi. Returns ACTION.EOI with `endedVector` set, or NONE when nothing was in service. */
  endOfInterrupt(): number {
    const { words, a } = this;
    const highest = this.highestInService();
    if (highest < 0) return ACTION.NONE;
    const vector = this.rules.eoiHighest ? highest : (listVectors(words, a + ISR)[0] ?? highest);
    if (hasVector(words, a + ISR, vector)) {
      clearVector(words, a + ISR, vector);
      if (!this.memory.options.apicv) {
        words[a + CONTROL.ISR_COUNT]--;
        words[a + CONTROL.ISR_HIGHEST] = -1;
      }
    }
    this.updatePpr();
    this.endedVector = vector;
    return ACTION.EOI;
  }

  isLevelTriggered(vector: number): boolean {
    return hasVector(this.words, this.a + TMR, vector);
  }

  isMasked(lvtOffset: number): boolean {
    return isLvtMasked(this.register(lvtOffset));
  }

  setTprFromCr8(cr8: number): void {
    this.words[this.a + TPR] = cr8ToTpr(cr8);
    this.updatePpr();
  }

  // Identity, base, reset

  /** kvm_apic_set_base. False is #GP (or the host's error). The map is marked dirty, not rebuilt. */
  setBase(low: number, high: number, hostInitiated: boolean): boolean {
    const { words, a } = this;
    const { physicalAddressBits, x2apicCpuid } = this.memory.options;
    const before = words[a + CONTROL.BASE_LOW];
    if (before === (low | 0) && words[a + CONTROL.BASE_HIGH] === (high | 0)) return true;
    const reserved = BASE.RESERVED_LOW | (x2apicCpuid ? 0 : BASE.EXTD);
    if ((low & reserved) !== 0 || high >>> 0 >= 2 ** (physicalAddressBits - 32)) return false;
    const from = baseMode(before);
    const to = baseMode(low);
    if (to === MODE.INVALID) return false;
    if (!hostInitiated && this.rules.baseTransitions) {
      if (from === MODE.X2APIC && to === MODE.XAPIC) return false;
      if (from === MODE.DISABLED && to === MODE.X2APIC) return false;
    }
    this.#storeBase(low, high);
    return true;
  }

  /** __kvm_apic_set_base: no checks. */
  #storeBase(low: number, high: number): void {
    const { words, a } = this;
    const changed = words[a + CONTROL.BASE_LOW] ^ low;
    words[a + CONTROL.BASE_LOW] = low;
    words[a + CONTROL.BASE_HIGH] = high;
    const enabled = (low & BASE.ENABLE) !== 0;
    const wide = (low & BASE.EXTD) !== 0;
    if ((changed & BASE.ENABLE) !== 0) {
      if (enabled) this.#setXapicId();
      else this.identityChanged();
    }
    if ((changed & BASE.EXTD) !== 0) {
      if (wide) this.#setX2apicId();
      else if (enabled) this.#setXapicId();
    }
    if (enabled && ((low & ~0xfff) !== BASE.DEFAULT_LOW || high !== 0)) Atomics.store(words, HEADER.BASE_MODIFIED, 1);
  }

  #setXapicId(): void {
    if (this.rules.xapicIdOnEnable) this.setRegister(REG.ID, makeXapicId(this.apicId));
    this.identityChanged();
  }

  #setX2apicId(): void {
    this.setRegister(REG.ID, this.apicId);
    this.setRegister(REG.LDR, x2apicLogicalId(this.apicId));
    this.identityChanged();
  }

  /** kvm_apic_set_version. */
  setVersion(): void {
    const { x2apicCpuid, suppressEoiBroadcast, ioapicInKernel } = this.memory.options;
    const offered = suppressEoiBroadcast === 'quirk' ? !ioapicInKernel : suppressEoiBroadcast === 'enabled';
    this.setRegister(REG.VERSION, makeVersion(this.lvtEntries, x2apicCpuid && offered));
  }

  /** kvm_lapic_reset. `init` keeps APIC base, and with it mode and ID, and in x2APIC mode the LDR. Registers that are not named keep their value. */
  reset(init: boolean): void {
    const { words, a } = this;
    const bootstrap = words[a + CONTROL.BOOTSTRAP] !== 0;
    if (!init || !this.rules.initKeepsX2apic) {
      this.#storeBase(BASE.DEFAULT_LOW | BASE.ENABLE | (bootstrap ? BASE.BSP : 0), 0);
    }
    this.timer.stop();
    if (!init) {
      this.setRegister(REG.ID, makeXapicId(this.apicId)); // even if it was enabled all the time
      Atomics.store(words, a + INBOX.EVENTS, 0);
    }
    this.setVersion();
    for (let i = 0; i < this.lvtEntries; i++) this.setRegister(LVT_OFFSETS[i], LVT.MASKED);
    this.timer.updateMode();
    if (bootstrap && this.memory.options.lint0Reenabled) this.setRegister(REG.LVT_LINT0, LVT.RESET_BSP_LINT0);
    this.setRegister(REG.DFR, DFR.FLAT);
    this.setRegister(REG.SPIV, SPIV.RESET);
    this.setRegister(REG.TPR, 0);
    this.setRegister(REG.ESR, 0);
    words[a + ICR_LOW] = 0;
    if (this.x2apicMode) {
      words[a + ICR_LOW + 1] = 0; // KVM clears the 64-bit form even where the vendor splits ICR
    } else {
      this.setRegister(REG.LDR, 0);
      words[a + ICR_HIGH] = 0;
    }
    this.setRegister(REG.TDCR, 0);
    this.setRegister(REG.TMICT, 0);
    for (let i = 0; i < 8; i++) {
      words[a + ISR + i * 4] = 0;
      words[a + TMR + i * 4] = 0;
      Atomics.store(words, a + IRR + i * 4, 0);
    }
    this.recountInService();
    this.timer.updateDivisor();
    this.timer.clearPending();
    this.updatePpr();
    Atomics.store(words, a + INBOX.NMIS, 0);
    Atomics.store(words, a + INBOX.ARB_PRIORITY, 0);
    this.identityChanged();
  }
}
