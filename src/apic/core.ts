/**
 * The registers of one APIC: what a read answers and what a write does, as decisions. No routing, no host calls but for the
 * time: an IPI or an EOI that results is returned, and local-apic.ts carries it out. Only the owner's thread runs this.
 *
 * Rules: kvm_lapic_reg_read, kvm_lapic_reg_write and kvm_x2apic_icr_write of arch/x86/kvm/lapic.c; SDM vol. 3A, chapter 12.
 * Where they differ: README.md. Base, IDs and reset are in base.ts, PPR and EOI in priority.ts, the timer in timer.ts.
 */
import { BASE, cr8ToTpr, ICR, LVT, SPIV, VERSION } from './fields.ts';
import { publishIdentity } from './identity.ts';
import { type ApicMemory, type BlockWord, CONTROL, IDENTITY, type RecordWord } from './layout.ts';
import type { ApicMap } from './map.ts';
import { Priority } from './priority.ts';
import { isReadable, LVT_OFFSETS, maskWrite, REG, registerIndex, STATE_BYTES } from './registers.ts';
import type { Rules } from './rules.ts';
import type { ApicTimer } from './timer.ts';
import { hasVector } from './vectors.ts';

/** What a write asks for. */
export const ACTION = { NONE: 0, FAULT: 1, IPI: 2, EOI: 3 } as const;

const word = (offset: number): number => offset >>> 2;
const TMR = word(REG.TMR);
const TPR = word(REG.TPR);
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
  readonly priority: Priority;
  /** KVM's vcpu_id, the x2APIC ID. */
  readonly apicId: number;
  /** First word of the block. */
  readonly a: BlockWord;
  /** The register page: the first bytes of the block. */
  readonly page: Uint8Array;
  /** Word of the upper half of ICR in x2APIC mode: where the vendor module keeps it. */
  readonly icrHighWord: number;
  /** First word of the identity record. */
  readonly #r: RecordWord;

  constructor(memory: ApicMemory, map: ApicMap, timer: ApicTimer, vcpuIndex: number) {
    this.memory = memory;
    this.words = memory.words;
    this.rules = memory.rules;
    this.map = map;
    this.timer = timer;
    this.a = memory.block(vcpuIndex);
    this.page = memory.bytes.subarray(this.a * 4, this.a * 4 + STATE_BYTES);
    this.icrHighWord = this.a + (memory.options.x2apicIcrSplit ? ICR_HIGH : ICR_LOW + 1);
    this.priority = new Priority(memory, this.a);
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

  /** What the others see of this APIC is what its registers say. */
  publish(): void {
    publishIdentity(this.words, this.#r, this.a);
  }

  /** A register that others route by has changed: tell them, then mark the map dirty. In this order. */
  identityChanged(): void {
    this.publish();
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
        this.priority.update();
        return this.register(offset) >>> 0;
      default:
        return this.register(offset) >>> 0;
    }
  }

  clearUpperIcr(): void {
    this.words[this.a + ICR_LOW + 1] = 0;
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
        this.priority.update();
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

  /** ACTION.EOI with `endedVector` set, or NONE when nothing was in service. */
  endOfInterrupt(): number {
    this.endedVector = this.priority.end();
    return this.endedVector < 0 ? ACTION.NONE : ACTION.EOI;
  }

  isLevelTriggered(vector: number): boolean {
    return hasVector(this.words, this.a + TMR, vector);
  }

  setTprFromCr8(cr8: number): void {
    this.words[this.a + TPR] = cr8ToTpr(cr8);
    this.priority.update();
  }
}
