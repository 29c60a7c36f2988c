/**
 * The two 8259A interrupt controllers of a PC (Intel 8259A data sheet, order number 231468-003) and the ELCR: master at
 * ports 0x20-0x21, slave at 0xa0-0xa1 on the master's input 2, edge/level control at 0x4d0-0x4d1.
 *
 * `pic-interrupt` reports the master's INT output (LINT0 of the local APICs); the CPU that takes it calls `acknowledge`,
 * which is both INTA cycles. As in KVM: an edge stays latched although its line falls before the acknowledge, ICW1's
 * level bit and ICW2's MCS-80 bits are ignored (ELCR decides on level), single mode means that no ICW3 follows, buffered mode
 * means nothing.
 */
import { GSI, PLATFORM } from '../platform.ts';
import type { Board, Device, Line } from './device.ts';

const CASCADE = GSI.CASCADE;
/** Timer, keyboard and cascade, and RTC and FPU, are always edge-triggered. */
const ELCR_MASKS = [0xf8, 0xde] as const;

const ICW1 = { MARK: 0x10, SINGLE: 0x02, NEEDS_ICW4: 0x01 } as const;
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
const RANGE = { MASTER: 0, SLAVE: 1, ELCR: 2 } as const;
const RAISED = { type: 'pic-interrupt', level: true } as const;
const LOWERED = { type: 'pic-interrupt', level: false } as const;

interface ChipState {
  lines: number;
  elcr: number;
  irr: number;
  imr: number;
  isr: number;
  vectorBase: number;
  /** The input that has the highest priority now; the others follow upwards, wrapping. */
  highest: number;
  expect: number;
  /** ICW1 said that there is no cascade: no ICW3 follows. */
  single: boolean;
  needsIcw4: boolean;
  autoEoi: boolean;
  rotateInAutoEoi: boolean;
  specialMask: boolean;
  specialFullyNested: boolean;
  readIsr: boolean;
  poll: boolean;
}

/** @param lines as their owners drive them */
function powerUp(lines: number): ChipState {
  return {
    lines,
    elcr: 0,
    irr: 0,
    imr: 0,
    isr: 0,
    vectorBase: 0,
    highest: 0,
    expect: EXPECT.MASK,
    single: false,
    needsIcw4: false,
    autoEoi: false,
    rotateInAutoEoi: false,
    specialMask: false,
    specialFullyNested: false,
    readIsr: false,
    poll: false,
  };
}

/** One 8259A. `cascaded` is 1 << 2 while a slave requests service through input 2, else 0. */
class Chip {
  state: ChipState = powerUp(0);

  setLine(input: number, level: boolean): void {
    const bit = 1 << input;
    const rising = level && (this.state.lines & bit) === 0;
    this.state.lines = level ? this.state.lines | bit : this.state.lines & ~bit;
    if (this.state.elcr & bit) this.state.irr = level ? this.state.irr | bit : this.state.irr & ~bit;
    else if (rising) this.state.irr |= bit;
  }

  /** @returns the input to serve now, or -1: the highest request that nothing in service of its rank or above blocks */
  request(cascaded: number): number {
    const pending = (this.state.irr | cascaded) & ~this.state.imr;
    if (pending === 0) return -1;
    let blocking = this.state.specialMask ? this.state.isr & ~this.state.imr : this.state.isr;
    if (this.state.specialFullyNested) blocking &= ~cascaded;
    for (let step = 0; step < 8; step++) {
      const bit = 1 << ((this.state.highest + step) & 7);
      if (blocking & bit) return -1;
      if (pending & bit) return (this.state.highest + step) & 7;
    }
    return -1;
  }

  /** An INTA cycle. @returns the input served, 7 if the request is gone (spurious) */
  acknowledge(cascaded: number): number {
    const input = this.request(cascaded);
    if (input < 0) return 7;
    const bit = 1 << input;
    if ((this.state.elcr & bit) === 0) this.state.irr &= ~bit;
    if (!this.state.autoEoi) this.state.isr |= bit;
    else if (this.state.rotateInAutoEoi) this.state.highest = (input + 1) & 7;
    return input;
  }

  vector(input: number): number {
    return this.state.vectorBase | input;
  }

  read(port: number, cascaded: number): number {
    if (this.state.poll) {
      this.state.poll = false;
      const requested = this.request(cascaded) >= 0;
      return requested ? POLL_INTERRUPT | this.acknowledge(cascaded) : 0;
    }
    if (port === 1) return this.state.imr;
    return this.state.readIsr ? this.state.isr : this.state.irr | cascaded;
  }

  write(port: number, value: number): void {
    if (port === 1) this.#writeData(value);
    else if (value & ICW1.MARK) this.#initialize(value);
    else if (value & OCW3.MARK) this.#writeOcw3(value);
    else this.#writeOcw2(value >> 5, value & 7);
  }

  reset(): void {
    this.state = powerUp(this.state.lines);
  }

  /** ICW1: clears mask and service, forgets latched edges, gives input 7 the lowest priority, selects IRR for reading. */
  #initialize(value: number): void {
    this.state.irr = this.state.lines & this.state.elcr;
    this.state.imr = 0;
    this.state.isr = 0;
    this.state.highest = 0;
    this.state.specialMask = false;
    this.state.readIsr = false;
    this.state.poll = false;
    this.state.single = (value & ICW1.SINGLE) !== 0;
    this.state.needsIcw4 = (value & ICW1.NEEDS_ICW4) !== 0;
    this.state.autoEoi = false;
    this.state.specialFullyNested = false;
    this.state.expect = EXPECT.ICW2;
  }

  #writeData(value: number): void {
    switch (this.state.expect) {
      case EXPECT.ICW2:
        this.state.vectorBase = value & 0xf8;
        this.state.expect = this.state.single ? this.#afterIcw3() : EXPECT.ICW3;
        break;
      case EXPECT.ICW3: // the wiring of the cascade is fixed
        this.state.expect = this.#afterIcw3();
        break;
      case EXPECT.ICW4:
        this.state.autoEoi = (value & ICW4.AUTO_EOI) !== 0;
        this.state.specialFullyNested = (value & ICW4.SPECIAL_FULLY_NESTED) !== 0;
        this.state.expect = EXPECT.MASK;
        break;
      default:
        this.state.imr = value;
    }
  }

  #afterIcw3(): number {
    return this.state.needsIcw4 ? EXPECT.ICW4 : EXPECT.MASK;
  }

  #writeOcw3(value: number): void {
    if (value & OCW3.POLL) this.state.poll = true;
    if (value & OCW3.READ) this.state.readIsr = (value & OCW3.READ_ISR) !== 0;
    if (value & OCW3.SET_SPECIAL_MASK) this.state.specialMask = (value & OCW3.SPECIAL_MASK) !== 0;
  }

  #writeOcw2(command: number, input: number): void {
    switch (command) {
      case OCW2.ROTATE_IN_AUTO_EOI_CLEAR:
      case OCW2.ROTATE_IN_AUTO_EOI_SET:
        this.state.rotateInAutoEoi = command === OCW2.ROTATE_IN_AUTO_EOI_SET;
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
        this.state.highest = (input + 1) & 7;
        break;
      default: // 2: no operation
    }
  }

  /** In special mask mode a non-specific EOI does not touch what is masked (data sheet, "Special Mask Mode"). */
  #highestInService(): number {
    const inService = this.state.specialMask ? this.state.isr & ~this.state.imr : this.state.isr;
    for (let step = 0; step < 8; step++) {
      const input = (this.state.highest + step) & 7;
      if (inService & (1 << input)) return input;
    }
    return -1;
  }

  #endOfInterrupt(input: number, rotate: boolean): void {
    this.state.isr &= ~(1 << input);
    if (rotate) this.state.highest = (input + 1) & 7;
  }
}

interface SavedPic {
  readonly master: Readonly<ChipState>;
  readonly slave: Readonly<ChipState>;
}

export class Pic implements Device {
  readonly name = 'pic';
  readonly ranges = [PLATFORM.PIC_MASTER, PLATFORM.PIC_SLAVE, PLATFORM.ELCR];
  readonly #board: Board;
  readonly #master = new Chip();
  readonly #slave = new Chip();
  #output: boolean = false;

  constructor(board: Board) {
    this.#board = board;
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
    if (rangeIndex === RANGE.ELCR) return (offset === 0 ? this.#master : this.#slave).state.elcr;
    const value =
      rangeIndex === RANGE.MASTER ? this.#master.read(offset, this.#cascaded()) : this.#slave.read(offset, 0);
    this.#update(); // a poll acknowledges
    return value;
  }

  write(rangeIndex: number, offset: number, _size: number, value: number): void {
    if (rangeIndex === RANGE.ELCR) {
      const { state } = offset === 0 ? this.#master : this.#slave;
      state.elcr = value & (offset === 0 ? ELCR_MASKS[0] : ELCR_MASKS[1]);
      state.irr = (state.irr & ~state.elcr) | (state.lines & state.elcr);
    } else {
      (rangeIndex === RANGE.MASTER ? this.#master : this.#slave).write(offset, value);
    }
    this.#update();
  }

  reset(): void {
    this.#master.reset();
    this.#slave.reset();
    this.#update();
  }

  save(): SavedPic {
    return { master: { ...this.#master.state }, slave: { ...this.#slave.state } };
  }

  restore({ master, slave }: SavedPic): void {
    this.#master.state = { ...master };
    this.#slave.state = { ...slave };
    this.#update();
  }

  #cascaded(): number {
    return this.#slave.request(0) >= 0 ? 1 << CASCADE : 0;
  }

  #update(): void {
    const level = this.#master.request(this.#cascaded()) >= 0;
    if (level === this.#output) return;
    this.#output = level;
    this.#board.report(level ? RAISED : LOWERED);
  }
}
