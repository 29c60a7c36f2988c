/**
 * The I/O APIC: Intel 82093AA (order number 290566-001, section 3) as KVM has it (arch/x86/kvm/ioapic.c): 24 pins,
 * version 0x11, hence no EOI register at offset 0x40; polarity is stored and ignored (a line that is `true` is active).
 *
 *     MMIO   0x00 register select (8 bits)      0x10 window: 0 ID, 1 version, 2 arbitration ID, 0x10 + 2n entry n
 *     entry  31:17 stored  16 mask  15 level  14 remote IRR (RO)  13 polarity  12 delivery status (RO, always 0)
 *            11 logical  10:8 delivery mode  7:0 vector      63:56 destination  55:49 destination 14:8 (see below)
 *
 * As in KVM, and not as one might expect: an edge that arrives while its pin is masked is latched in IRR but never
 * delivered; a level entry is serviced on any write to it while its line is high; turning an entry to edge clears its
 * remote IRR; remote IRR is set even if nobody took the interrupt (`deliver` answers -1); a pin that comes back 10,000
 * times in a row at EOI is held for 10 ms. Left out: the RTC pin's EOI tracking, which in KVM serves KVM_IRQ_LINE_STATUS
 * only (this is the behaviour under KVM_IRQ_LINE), and save/restore.
 *
 * Destination bits 14:8 count only with `extendedDestination`, as in a userspace I/O APIC under KVM_FEATURE_MSI_EXT_DEST_ID
 * (QEMU with a split irqchip); KVM's own takes 8 bits. Runs on worker 0; no allocation in delivery.
 */
import type { AddressRange, Clock, Device, Line } from './device.ts';

export const IOAPIC_PINS = 24;

const REG = { SELECT: 0x00, WINDOW: 0x10 } as const;
const INDIRECT = { ID: 0x00, VERSION: 0x01, ARBITRATION_ID: 0x02, FIRST_ENTRY: 0x10 } as const;
const VERSION = ((IOAPIC_PINS - 1) << 16) | 0x11;
const ENTRY = {
  DELIVERY_MODE: 0x700,
  LOGICAL: 1 << 11,
  DELIVERY_STATUS: 1 << 12,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASK: 1 << 16,
} as const;
const READ_ONLY = ENTRY.REMOTE_IRR | ENTRY.DELIVERY_STATUS;

const SUCCESSIVE_EOI_LIMIT = 10_000;
const STORM_DELAY_NANOS = 10_000_000;

/** An interrupt that leaves the I/O APIC, in the words of KVM's `struct kvm_lapic_irq`. */
export interface IoApicInterrupt {
  destination: number;
  logical: boolean;
  /** 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT. */
  deliveryMode: number;
  vector: number;
  /** Level-triggered; such an interrupt is always an assertion. */
  levelTriggered: boolean;
}

/** One redirection entry, readable. */
export interface RedirectionEntry extends Readonly<IoApicInterrupt> {
  readonly pin: number;
  readonly masked: boolean;
  readonly remoteIrr: boolean;
  /** The pin's bit in IRR: the line is high, or an edge waits. */
  readonly pending: boolean;
  /** The 64 bits as the guest reads them. */
  readonly low: number;
  readonly high: number;
}

export interface IoApicOptions {
  /**
   * Routes an interrupt to the local APICs and answers how many took it (0: coalesced), or -1 if nobody matched. The object
   * is reused: it holds only during the call.
   */
  readonly deliver: (interrupt: Readonly<IoApicInterrupt>) => number;
  readonly now: Clock;
  /** The guest rewrote the entry of `pin`: routes derived from it (EOI exits of a split irqchip) are stale. */
  readonly onEntryChange?: (pin: number) => void;
  readonly extendedDestination?: boolean;
}

export class IoApic implements Device {
  readonly name = 'ioapic';
  readonly ranges: readonly AddressRange[] = [{ space: 'mmio', base: 0xfec00000, length: 0x100 }];
  readonly #options: IoApicOptions;
  readonly #low = new Uint32Array(IOAPIC_PINS);
  readonly #high = new Uint32Array(IOAPIC_PINS);
  /** One bit for each source wired to the pin; the line is high while any is set. */
  readonly #sources = new Uint32Array(IOAPIC_PINS);
  readonly #wired = new Uint8Array(IOAPIC_PINS);
  readonly #eoiCount = new Uint32Array(IOAPIC_PINS);
  readonly #outgoing: IoApicInterrupt = {
    destination: 0,
    logical: false,
    deliveryMode: 0,
    vector: 0,
    levelTriggered: false,
  };
  #select = 0;
  #id = 0;
  #irr = 0;
  #stormDeadline = Number.POSITIVE_INFINITY;

  constructor(options: IoApicOptions) {
    this.#options = options;
    this.#low.fill(ENTRY.MASK);
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
    if (pin < 0 || pin >= IOAPIC_PINS) return -1;
    const bit = 1 << source;
    const state = level ? (this.#sources[pin] ?? 0) | bit : (this.#sources[pin] ?? 0) & ~bit;
    this.#sources[pin] = state;
    const mask = 1 << pin;
    if (state === 0) {
      this.#irr &= ~mask;
      return 1;
    }
    const wasPending = (this.#irr & mask) !== 0;
    this.#irr |= mask;
    const edge = ((this.#low[pin] ?? 0) & ENTRY.LEVEL) === 0;
    if (edge && wasPending) return 0;
    return this.#service(pin);
  }

  /** A local APIC ended a level-triggered interrupt of this vector and broadcast the EOI. */
  eoi(vector: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const entry = this.#low[pin] ?? 0;
      if ((entry & 0xff) === vector) this.#endOfInterrupt(pin, entry);
    }
  }

  /** The entry of `pin` (0-23). */
  entry(pin: number): RedirectionEntry {
    const low = this.#low[pin] ?? ENTRY.MASK;
    const high = this.#high[pin] ?? 0;
    return {
      pin,
      destination: this.#destination(high),
      logical: (low & ENTRY.LOGICAL) !== 0,
      deliveryMode: (low & ENTRY.DELIVERY_MODE) >> 8,
      vector: low & 0xff,
      levelTriggered: (low & ENTRY.LEVEL) !== 0,
      masked: (low & ENTRY.MASK) !== 0,
      remoteIrr: (low & ENTRY.REMOTE_IRR) !== 0,
      pending: (this.#irr & (1 << pin)) !== 0,
      low,
      high,
    };
  }

  /** All 24 entries, in the order of pins. */
  entries(): RedirectionEntry[] {
    return Array.from({ length: IOAPIC_PINS }, (_, pin) => this.entry(pin));
  }

  read(_rangeIndex: number, offset: number, size: number): number {
    const value = offset === REG.SELECT ? this.#select : offset === REG.WINDOW ? this.#readWindow() : 0;
    return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    if (offset === REG.SELECT) this.#select = value & 0xff;
    else if (offset === REG.WINDOW) this.#writeWindow(value);
  }

  /** Power-up state. The lines keep the level their owners drive: one that is still high counts as soon as it may. */
  reset(): void {
    this.#low.fill(ENTRY.MASK);
    this.#high.fill(0);
    this.#eoiCount.fill(0);
    this.#select = 0;
    this.#id = 0;
    this.#irr = 0;
    this.#stormDeadline = Number.POSITIVE_INFINITY;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      if (this.#sources[pin] !== 0) this.#irr |= 1 << pin;
      this.#options.onEntryChange?.(pin);
    }
  }

  deadlineNanos(): number {
    return this.#stormDeadline;
  }

  advance(nowNanos: number): void {
    if (nowNanos < this.#stormDeadline) return;
    this.#stormDeadline = Number.POSITIVE_INFINITY;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      if ((this.#low[pin] ?? 0) & ENTRY.LEVEL && this.#irr & (1 << pin)) this.#service(pin);
    }
  }

  #readWindow(): number {
    switch (this.#select) {
      case INDIRECT.VERSION:
        return VERSION;
      case INDIRECT.ID:
      case INDIRECT.ARBITRATION_ID:
        return this.#id << 24;
      default: {
        const pin = (this.#select - INDIRECT.FIRST_ENTRY) >> 1;
        return (this.#select & 1 ? this.#high[pin] : this.#low[pin]) ?? 0xffffffff;
      }
    }
  }

  #writeWindow(value: number): void {
    if (this.#select === INDIRECT.ID) {
      this.#id = (value >>> 24) & 0xf;
      return;
    }
    const pin = (this.#select - INDIRECT.FIRST_ENTRY) >> 1;
    if (pin >= 0 && pin < IOAPIC_PINS) this.#writeEntry(pin, value);
  }

  #writeEntry(pin: number, value: number): void {
    let low = this.#low[pin] ?? 0;
    if (this.#select & 1) this.#high[pin] = value;
    else low = (value & ~READ_ONLY) | (low & READ_ONLY);
    // Linux and Xen make an entry edge-triggered for a moment to end an interrupt on I/O APICs without EOI register.
    if ((low & ENTRY.LEVEL) === 0) low &= ~ENTRY.REMOTE_IRR;
    this.#low[pin] = low;
    this.#options.onEntryChange?.(pin);
    if (low & ENTRY.LEVEL && this.#irr & (1 << pin)) this.#service(pin);
  }

  #endOfInterrupt(pin: number, entry: number): void {
    this.#low[pin] = entry & ~ENTRY.REMOTE_IRR;
    if (entry & ENTRY.MASK || (this.#irr & (1 << pin)) === 0) {
      this.#eoiCount[pin] = 0;
      return;
    }
    // The line is still high: the next interrupt. A guest that never silences its device would get nothing else done.
    const count = (this.#eoiCount[pin] ?? 0) + 1;
    if (count < SUCCESSIVE_EOI_LIMIT) {
      this.#eoiCount[pin] = count;
      this.#service(pin);
    } else {
      this.#eoiCount[pin] = 0;
      if (this.#stormDeadline === Number.POSITIVE_INFINITY) {
        this.#stormDeadline = this.#options.now() + STORM_DELAY_NANOS;
      }
    }
  }

  /** Sends what the entry says, unless it is masked or a level interrupt still waits for its EOI. */
  #service(pin: number): number {
    const low = this.#low[pin] ?? 0;
    const level = (low & ENTRY.LEVEL) !== 0;
    if (low & ENTRY.MASK || (level && low & ENTRY.REMOTE_IRR)) return -1;
    const outgoing = this.#outgoing;
    outgoing.destination = this.#destination(this.#high[pin] ?? 0);
    outgoing.logical = (low & ENTRY.LOGICAL) !== 0;
    outgoing.deliveryMode = (low & ENTRY.DELIVERY_MODE) >> 8;
    outgoing.vector = low & 0xff;
    outgoing.levelTriggered = level;
    const delivered = this.#options.deliver(outgoing);
    if (delivered !== 0 && level) this.#low[pin] = (this.#low[pin] ?? 0) | ENTRY.REMOTE_IRR;
    return delivered;
  }

  #destination(high: number): number {
    const destination = high >>> 24;
    return this.#options.extendedDestination ? destination | (((high >>> 17) & 0x7f) << 8) : destination;
  }
}
