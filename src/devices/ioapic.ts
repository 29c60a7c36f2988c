/**
 * The I/O APIC: Intel 82093AA (order number 290566-001, section 3) as KVM has it (arch/x86/kvm/ioapic.c): 24 pins;
 * polarity is stored and ignored (a line that is `true` is active). Version 0x20 with the EOI register at offset 0x40 (Intel
 * ICH9 data sheet, section 13.5; KVM's own is 0x11): the local APICs offer EOI-broadcast suppression, which needs it.
 *
 *     MMIO   0x00 register select (8 bits)      0x10 window: 0 ID, 1 version, 2 arbitration ID, 0x10 + 2n entry n
 *            0x40 EOI (WO): a vector
 *     entry  31:17 stored  16 mask  15 level  14 remote IRR (RO)  13 polarity  12 delivery status (RO, always 0)
 *            11 logical  10:8 delivery mode  7:0 vector      63:56 destination  55:49 destination 14:8 (see below)
 *
 * As in KVM, and not as one might expect: an edge that arrives while its pin is masked is latched in IRR but never
 * delivered; a level entry is serviced on any write to it while its line is high; turning an entry to edge clears its
 * remote IRR; remote IRR is set even if nobody took the interrupt (`msi` answers -1); a pin that comes back 10,000
 * times in a row at EOI is held for 10 ms. Left out: the RTC pin's EOI tracking, which in KVM serves KVM_IRQ_LINE_STATUS
 * only (this is the behaviour under KVM_IRQ_LINE).
 *
 * Destination bits 14:8 count only with `extendedDestination`, as in a userspace I/O APIC under KVM_FEATURE_MSI_EXT_DEST_ID
 * (QEMU with a split irqchip); KVM's own takes 8 bits. Runs on worker 0; no allocation in delivery.
 */
import { GSI_COUNT, PLATFORM } from '../platform.ts';
import type { Board, Device, Line } from './device.ts';
import { moved, type Saved } from './state.ts';

const PINS = GSI_COUNT;

const REG = { SELECT: 0x00, WINDOW: 0x10, EOI: 0x40 } as const;
const INDIRECT = { ID: 0x00, VERSION: 0x01, ARBITRATION_ID: 0x02, FIRST_ENTRY: 0x10 } as const;
const VERSION = ((PINS - 1) << 16) | 0x20;
const ENTRY = {
  /** Vector, delivery mode, logical: laid out as in the ICR, and so is LEVEL. */
  COMMAND: 0xfff,
  DELIVERY_STATUS: 1 << 12,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASK: 1 << 16,
} as const;
const READ_ONLY = ENTRY.REMOTE_IRR | ENTRY.DELIVERY_STATUS;

/** The ICR's bit 14. */
const ASSERT = 1 << 14;
const REDIRECTION = { type: 'redirection' } as const;

const SUCCESSIVE_EOI_LIMIT = 10_000;
const STORM_DELAY_NANOS = 10_000_000;

/** One redirection entry, readable. */
export interface RedirectionEntry {
  readonly pin: number;
  readonly destination: number;
  /** As `Board.msi` takes it. */
  readonly command: number;
  readonly levelTriggered: boolean;
  readonly masked: boolean;
  readonly remoteIrr: boolean;
  /** The pin's bit in IRR: the line is high, or an edge waits. */
  readonly pending: boolean;
  /** The 64 bits as the guest reads them. */
  readonly low: number;
  readonly high: number;
}

export interface IoApicOptions {
  readonly extendedDestination?: boolean;
}

interface State {
  readonly low: Uint32Array;
  readonly high: Uint32Array;
  /** One bit for each source wired to the pin; the line is high while any is set. */
  readonly sources: Uint32Array;
  readonly eoiCount: Uint32Array;
  select: number;
  id: number;
  irr: number;
  /** When pins that came back too often are looked at again, in nanoseconds; null when none is held. */
  stormDeadline: number | null;
}

/** @param sources what is wired stays as it is driven */
function powerUp(sources: Uint32Array): State {
  let irr = 0;
  for (let pin = 0; pin < PINS; pin++) if (sources[pin] !== 0) irr |= 1 << pin;
  return {
    low: new Uint32Array(PINS).fill(ENTRY.MASK),
    high: new Uint32Array(PINS),
    sources,
    eoiCount: new Uint32Array(PINS),
    select: 0,
    id: 0,
    irr,
    stormDeadline: null,
  };
}

export class IoApic implements Device {
  readonly name = 'ioapic';
  readonly ranges = [PLATFORM.IOAPIC];
  readonly #board: Board;
  readonly #extendedDestination: boolean;
  readonly #wired = new Uint8Array(PINS);
  #state: State = powerUp(new Uint32Array(PINS));

  constructor(board: Board, options: IoApicOptions = {}) {
    this.#board = board;
    this.#extendedDestination = options.extendedDestination ?? false;
  }

  /**
   * Wires one more source to a pin and answers its line. Sources of one pin are ORed.
   * @throws RangeError if there is no such pin, or 32 sources are wired to it
   */
  connect(pin: number): Line {
    const source = this.#wired[pin];
    if (source === undefined || source >= 32)
      throw new RangeError(`I/O APIC pin ${pin}: no such pin, or 32 sources on it`);
    this.#wired[pin] = source + 1;
    return (level) => {
      this.setLine(pin, source, level);
    };
  }

  /**
   * Sets the level of one source of a pin (KVM's `kvm_ioapic_set_irq`).
   * @param pin 0-23; others are ignored
   * @param source 0-31; use `connect` unless sources are numbered elsewhere
   * @returns as KVM_IRQ_LINE_STATUS: over 0 delivered (or the line went low), 0 coalesced, -1 masked or waiting for EOI
   */
  setLine(pin: number, source: number, level: boolean): number {
    if (pin < 0 || pin >= PINS) return -1;
    const bit = 1 << source;
    const state = level ? (this.#state.sources[pin] ?? 0) | bit : (this.#state.sources[pin] ?? 0) & ~bit;
    this.#state.sources[pin] = state;
    const mask = 1 << pin;
    if (state === 0) {
      this.#state.irr &= ~mask;
      return 1;
    }
    const wasPending = (this.#state.irr & mask) !== 0;
    this.#state.irr |= mask;
    const edge = ((this.#state.low[pin] ?? 0) & ENTRY.LEVEL) === 0;
    if (edge && wasPending) return 0;
    return this.#service(pin);
  }

  /** An EOI of this vector, broadcast by a local APIC or written to the EOI register. Entries that are edge ignore it. */
  eoi(vector: number): void {
    for (let pin = 0; pin < PINS; pin++) {
      const entry = this.#state.low[pin] ?? 0;
      if ((entry & 0xff) === vector && entry & ENTRY.LEVEL) this.#endOfInterrupt(pin, entry);
    }
  }

  /** The entry of `pin` (0-23). */
  entry(pin: number): RedirectionEntry {
    const low = this.#state.low[pin] ?? ENTRY.MASK;
    const high = this.#state.high[pin] ?? 0;
    return {
      pin,
      destination: this.#destination(high),
      command: commandOf(low),
      levelTriggered: (low & ENTRY.LEVEL) !== 0,
      masked: (low & ENTRY.MASK) !== 0,
      remoteIrr: (low & ENTRY.REMOTE_IRR) !== 0,
      pending: (this.#state.irr & (1 << pin)) !== 0,
      low,
      high,
    };
  }

  /** All 24 entries, in the order of pins. */
  entries(): RedirectionEntry[] {
    return Array.from({ length: PINS }, (_, pin) => this.entry(pin));
  }

  read(_rangeIndex: number, offset: number, size: number): number {
    const value = offset === REG.SELECT ? this.#state.select : offset === REG.WINDOW ? this.#readWindow() : 0;
    return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    if (offset === REG.SELECT) this.#state.select = value & 0xff;
    else if (offset === REG.WINDOW) this.#writeWindow(value);
    else if (offset === REG.EOI) this.eoi(value & 0xff);
  }

  /** Power-up state. The lines keep the level their owners drive: one that is still high counts as soon as it may. */
  reset(): void {
    this.#state = powerUp(this.#state.sources);
    this.#board.report(REDIRECTION);
  }

  save(): Saved<State> {
    const { low, high, sources, eoiCount, stormDeadline, ...registers } = this.#state;
    return {
      ...registers,
      low: [...low],
      high: [...high],
      sources: [...sources],
      eoiCount: [...eoiCount],
      stormDeadline: moved(stormDeadline, -this.#board.now()),
    };
  }

  restore({ low, high, sources, eoiCount, stormDeadline, ...registers }: Saved<State>): void {
    this.#state = {
      ...registers,
      low: Uint32Array.from(low),
      high: Uint32Array.from(high),
      sources: Uint32Array.from(sources),
      eoiCount: Uint32Array.from(eoiCount),
      stormDeadline: moved(stormDeadline, this.#board.now()),
    };
    this.#board.report(REDIRECTION);
  }

  deadlineNanos(): number {
    return this.#state.stormDeadline ?? Number.POSITIVE_INFINITY;
  }

  advance(nowNanos: number): void {
    if (nowNanos < this.deadlineNanos()) return;
    this.#state.stormDeadline = null;
    for (let pin = 0; pin < PINS; pin++) {
      if ((this.#state.low[pin] ?? 0) & ENTRY.LEVEL && this.#state.irr & (1 << pin)) this.#service(pin);
    }
  }

  #readWindow(): number {
    switch (this.#state.select) {
      case INDIRECT.VERSION:
        return VERSION;
      case INDIRECT.ID:
      case INDIRECT.ARBITRATION_ID:
        return this.#state.id << 24;
      default: {
        const pin = (this.#state.select - INDIRECT.FIRST_ENTRY) >> 1;
        return (this.#state.select & 1 ? this.#state.high[pin] : this.#state.low[pin]) ?? 0xffffffff;
      }
    }
  }

  #writeWindow(value: number): void {
    if (this.#state.select === INDIRECT.ID) {
      this.#state.id = (value >>> 24) & 0xf;
      return;
    }
    const pin = (this.#state.select - INDIRECT.FIRST_ENTRY) >> 1;
    if (pin >= 0 && pin < PINS) this.#writeEntry(pin, value);
  }

  #writeEntry(pin: number, value: number): void {
    let low = this.#state.low[pin] ?? 0;
    if (this.#state.select & 1) this.#state.high[pin] = value;
    else low = (value & ~READ_ONLY) | (low & READ_ONLY);
    // Linux and Xen make an entry edge-triggered for a moment to end an interrupt on I/O APICs without EOI register.
    if ((low & ENTRY.LEVEL) === 0) low &= ~ENTRY.REMOTE_IRR;
    this.#state.low[pin] = low;
    this.#board.report(REDIRECTION);
    if (low & ENTRY.LEVEL && this.#state.irr & (1 << pin)) this.#service(pin);
  }

  #endOfInterrupt(pin: number, entry: number): void {
    this.#state.low[pin] = entry & ~ENTRY.REMOTE_IRR;
    if (entry & ENTRY.MASK || (this.#state.irr & (1 << pin)) === 0) {
      this.#state.eoiCount[pin] = 0;
      return;
    }
    // The line is still high: the next interrupt. A guest that never silences its device would get nothing else done.
    const count = (this.#state.eoiCount[pin] ?? 0) + 1;
    if (count < SUCCESSIVE_EOI_LIMIT) {
      this.#state.eoiCount[pin] = count;
      this.#service(pin);
    } else {
      this.#state.eoiCount[pin] = 0;
      this.#state.stormDeadline ??= this.#board.now() + STORM_DELAY_NANOS;
    }
  }

  /** Sends what the entry says, unless it is masked or a level interrupt still waits for its EOI. */
  #service(pin: number): number {
    const low = this.#state.low[pin] ?? 0;
    const level = (low & ENTRY.LEVEL) !== 0;
    if (low & ENTRY.MASK || (level && low & ENTRY.REMOTE_IRR)) return -1;
    const delivered = this.#board.msi(this.#destination(this.#state.high[pin] ?? 0), commandOf(low));
    if (delivered !== 0 && level) this.#state.low[pin] = (this.#state.low[pin] ?? 0) | ENTRY.REMOTE_IRR;
    return delivered;
  }

  #destination(high: number): number {
    const destination = high >>> 24;
    return this.#extendedDestination ? destination | (((high >>> 17) & 0x7f) << 8) : destination;
  }
}

/** An entry's low word as the ICR's. */
function commandOf(low: number): number {
  return (low & (ENTRY.COMMAND | ENTRY.LEVEL)) | ASSERT;
}
