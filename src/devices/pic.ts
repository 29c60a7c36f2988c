/**
 * The two 8259A interrupt controllers of a PC (Intel 8259A data sheet, order number 231468-003) and the ELCR: master at
 * ports 0x20-0x21, slave at 0xa0-0xa1 on the master's input 2, edge/level control at 0x4d0-0x4d1.
 *
 * `interrupt` is the master's INT output (LINT0 of the local APICs); the CPU that takes it calls `acknowledge`, which is
 * both INTA cycles. As in KVM: an edge stays latched although its line falls before the acknowledge, ICW1's single and
 * level bits and ICW2's MCS-80 bits are ignored (ELCR decides on level), buffered mode means nothing.
 */
import type { AddressRange, Device, Line } from './device.ts';

const CASCADE = 2;
/** Timer, keyboard and cascade, and RTC and FPU, are always edge-triggered. */
const ELCR_MASKS = [0xf8, 0xde] as const;

const ICW1 = { MARK: 0x10, NEEDS_ICW4: 0x01 } as const;
const ICW4 = { AUTO_EOI: 0x02, SPECIAL_FULLY_NESTED: 0x10 } as const;
const OCW3 = {
  MARK: 0x08,
  READ_ISR: 0x01,
  READ: 0x02,
  POLL: 0x04,
  SPECIAL_MASK: 0x20,
  SET_SPECIAL_MASK: 0x40,
} as const;
/** OCW2 bits 7:5. */
const OCW2 = {
  ROTATE_IN_AUTO_EOI_CLEAR: 0,
  EOI: 1,
  SPECIFIC_EOI: 3,
  ROTATE_IN_AUTO_EOI_SET: 4,
  ROTATE_ON_EOI: 5,
  SET_PRIORITY: 6,
  ROTATE_ON_SPECIFIC_EOI: 7,
} as const;
/** Which byte the data port (A0 = 1) takes next. */
const EXPECT = { MASK: 0, ICW2: 1, ICW3: 2, ICW4: 3 } as const;
const POLL_INTERRUPT = 0x80;

/** One 8259A. `cascaded` is 1 << 2 while a slave requests service through input 2, else 0. */
class Chip {
  elcr = 0;
  lines = 0;
  irr = 0;
  #imr = 0;
  #isr = 0;
  #vectorBase = 0;
  /** The input that has the highest priority now; the others follow upwards, wrapping. */
  #highest = 0;
  #expect: number = EXPECT.MASK;
  #needsIcw4: boolean = false;
  #autoEoi: boolean = false;
  #rotateInAutoEoi: boolean = false;
  #specialMask: boolean = false;
  #specialFullyNested: boolean = false;
  #readIsr: boolean = false;
  #poll: boolean = false;

  setLine(input: number, level: boolean): void {
    const bit = 1 << input;
    const rising = level && (this.lines & bit) === 0;
    this.lines = level ? this.lines | bit : this.lines & ~bit;
    if (this.elcr & bit) this.irr = level ? this.irr | bit : this.irr & ~bit;
    else if (rising) this.irr |= bit;
  }

  /** @returns the input to serve now, or -1: the highest request that nothing in service of its rank or above blocks */
  request(cascaded: number): number {
    const pending = (this.irr | cascaded) & ~this.#imr;
    if (pending === 0) return -1;
    let blocking = this.#specialMask ? this.#isr & ~this.#imr : this.#isr;
    if (this.#specialFullyNested) blocking &= ~cascaded;
    for (let step = 0; step < 8; step++) {
      const bit = 1 << ((this.#highest + step) & 7);
      if (blocking & bit) return -1;
      if (pending & bit) return (this.#highest + step) & 7;
    }
    return -1;
  }

  /** An INTA cycle. @returns the input served, 7 if the request is gone (spurious) */
  acknowledge(cascaded: number): number {
    const input = this.request(cascaded);
    if (input < 0) return 7;
    const bit = 1 << input;
    if ((this.elcr & bit) === 0) this.irr &= ~bit;
    if (!this.#autoEoi) this.#isr |= bit;
    else if (this.#rotateInAutoEoi) this.#highest = (input + 1) & 7;
    return input;
  }

  vector(input: number): number {
    return this.#vectorBase | input;
  }

  read(port: number, cascaded: number): number {
    if (this.#poll) {
      this.#poll = false;
      const requested = this.request(cascaded) >= 0;
      return requested ? POLL_INTERRUPT | this.acknowledge(cascaded) : 0;
    }
    if (port === 1) return this.#imr;
    return this.#readIsr ? this.#isr : this.irr | cascaded;
  }

  write(port: number, value: number): void {
    if (port === 1) this.#writeData(value);
    else if (value & ICW1.MARK) this.#initialize(value);
    else if (value & OCW3.MARK) this.#writeOcw3(value);
    else this.#writeOcw2(value >> 5, value & 7);
  }

  reset(): void {
    this.elcr = 0;
    this.#initialize(0);
    this.#expect = EXPECT.MASK;
    this.#vectorBase = 0;
    this.#rotateInAutoEoi = false;
  }

  /** ICW1: clears mask and service, forgets latched edges, gives input 7 the lowest priority, selects IRR for reading. */
  #initialize(value: number): void {
    this.irr = this.lines & this.elcr;
    this.#imr = 0;
    this.#isr = 0;
    this.#highest = 0;
    this.#specialMask = false;
    this.#readIsr = false;
    this.#poll = false;
    this.#needsIcw4 = (value & ICW1.NEEDS_ICW4) !== 0;
    this.#autoEoi = false;
    this.#specialFullyNested = false;
    this.#expect = EXPECT.ICW2;
  }

  #writeData(value: number): void {
    switch (this.#expect) {
      case EXPECT.ICW2:
        this.#vectorBase = value & 0xf8;
        this.#expect = EXPECT.ICW3;
        break;
      case EXPECT.ICW3: // the wiring of the cascade is fixed
        this.#expect = this.#needsIcw4 ? EXPECT.ICW4 : EXPECT.MASK;
        break;
      case EXPECT.ICW4:
        this.#autoEoi = (value & ICW4.AUTO_EOI) !== 0;
        this.#specialFullyNested = (value & ICW4.SPECIAL_FULLY_NESTED) !== 0;
        this.#expect = EXPECT.MASK;
        break;
      default:
        this.#imr = value;
    }
  }

  #writeOcw3(value: number): void {
    if (value & OCW3.POLL) this.#poll = true;
    if (value & OCW3.READ) this.#readIsr = (value & OCW3.READ_ISR) !== 0;
    if (value & OCW3.SET_SPECIAL_MASK) this.#specialMask = (value & OCW3.SPECIAL_MASK) !== 0;
  }

  #writeOcw2(command: number, input: number): void {
    switch (command) {
      case OCW2.ROTATE_IN_AUTO_EOI_CLEAR:
      case OCW2.ROTATE_IN_AUTO_EOI_SET:
        this.#rotateInAutoEoi = command === OCW2.ROTATE_IN_AUTO_EOI_SET;
        break;
      case OCW2.EOI:
      case OCW2.ROTATE_ON_EOI: {
        const served = this.#highestInService();
        if (served >= 0) this.#endOfInterrupt(served, command === OCW2.ROTATE_ON_EOI);
        break;
      }
      case OCW2.SPECIFIC_EOI:
      case OCW2.ROTATE_ON_SPECIFIC_EOI:
        this.#endOfInterrupt(input, command === OCW2.ROTATE_ON_SPECIFIC_EOI);
        break;
      case OCW2.SET_PRIORITY:
        this.#highest = (input + 1) & 7;
        break;
      default: // 2: no operation
    }
  }

  /** In special mask mode a non-specific EOI does not touch what is masked (data sheet, "Special Mask Mode"). */
  #highestInService(): number {
    const inService = this.#specialMask ? this.#isr & ~this.#imr : this.#isr;
    for (let step = 0; step < 8; step++) {
      const input = (this.#highest + step) & 7;
      if (inService & (1 << input)) return input;
    }
    return -1;
  }

  #endOfInterrupt(input: number, rotate: boolean): void {
    this.#isr &= ~(1 << input);
    if (rotate) this.#highest = (input + 1) & 7;
  }
}

export class Pic implements Device {
  readonly name = 'pic';
  readonly ranges: readonly AddressRange[] = [
    { space: 'pio', base: 0x20, length: 2, maxAccess: 1 },
    { space: 'pio', base: 0xa0, length: 2, maxAccess: 1 },
    { space: 'pio', base: 0x4d0, length: 2, maxAccess: 1 },
  ];
  readonly #interrupt: Line;
  readonly #master = new Chip();
  readonly #slave = new Chip();
  #output: boolean = false;

  /** @param interrupt the master's INT output; called only when it changes */
  constructor(interrupt: Line) {
    this.#interrupt = interrupt;
  }

  /** Whether a CPU that accepts ExtINT would get an interrupt now. */
  get output(): boolean {
    return this.#output;
  }

  /** Sets input 0-15 (ISA IRQ number); 2 is the cascade and, like anything else, ignored. */
  setLine(irq: number, level: boolean): void {
    if (irq < 0 || irq > 15 || irq === CASCADE) return;
    (irq < 8 ? this.#master : this.#slave).setLine(irq & 7, level);
    this.#update();
  }

  /** The line of ISA IRQ `irq`. */
  line(irq: number): Line {
    return (level) => this.setLine(irq, level);
  }

  /** Both INTA cycles: the CPU takes the interrupt. @returns its vector, that of IRQ 7 or 15 when the request is gone */
  acknowledge(): number {
    const input = this.#master.acknowledge(this.#cascaded());
    const chip = input === CASCADE ? this.#slave : this.#master;
    const vector = chip.vector(input === CASCADE ? this.#slave.acknowledge(0) : input);
    this.#update();
    return vector;
  }

  read(rangeIndex: number, offset: number): number {
    if (rangeIndex === 2) return (offset === 0 ? this.#master : this.#slave).elcr;
    const value = rangeIndex === 0 ? this.#master.read(offset, this.#cascaded()) : this.#slave.read(offset, 0);
    this.#update(); // a poll acknowledges
    return value;
  }

  write(rangeIndex: number, offset: number, _size: number, value: number): void {
    if (rangeIndex === 2) {
      const chip = offset === 0 ? this.#master : this.#slave;
      chip.elcr = value & (offset === 0 ? ELCR_MASKS[0] : ELCR_MASKS[1]);
      chip.irr = (chip.irr & ~chip.elcr) | (chip.lines & chip.elcr);
    } else {
      (rangeIndex === 0 ? this.#master : this.#slave).write(offset, value);
    }
    this.#update();
  }

  reset(): void {
    this.#master.reset();
    this.#slave.reset();
    this.#update();
  }

  #cascaded(): number {
    return this.#slave.request(0) >= 0 ? 1 << CASCADE : 0;
  }

  #update(): void {
    const level = this.#master.request(this.#cascaded()) >= 0;
    if (level === this.#output) return;
    this.#output = level;
    this.#interrupt(level);
  }
}
