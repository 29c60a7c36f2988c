/**
 * How interrupt lines run in this PC: each ISA interrupt to both the 8259s and the I/O APIC (IRQ 0 to pin 2), pins from 16
 * on to the I/O APIC alone.
 */
import type { Line } from '../../devices/device.ts';
import { IOAPIC_PINS, type IoApic } from '../../devices/ioapic.ts';
import type { Pic } from '../../devices/pic.ts';
import { Wire } from '../../devices/wire.ts';

/** Global system interrupts; below 16 they are the ISA interrupts of a PC. */
export const Gsi = { timer: 0, keyboard: 1, serial: 4, rtc: 8, sci: 9, mouse: 12, cpuHotplug: 20 } as const;
const ISA_INTERRUPTS = 16;
const CASCADE = 2;
const TIMER_PIN = 2;

export class Wiring {
  readonly #wires: Wire[] = [];
  readonly #tests: Line[] = [];

  constructor(pic: Pic, ioapic: IoApic) {
    for (let gsi = 0; gsi < IOAPIC_PINS; gsi++) {
      const sinks: Line[] = [];
      if (gsi < ISA_INTERRUPTS && gsi !== CASCADE) sinks.push(pic.line(gsi));
      if (gsi !== Gsi.timer) sinks.push(ioapic.connect(gsi));
      else sinks.push(ioapic.connect(TIMER_PIN));
      this.#wires.push(new Wire(...sinks));
    }
    this.#tests = this.#wires.map((wire) => wire.connect());
  }

  /** One more source of a global system interrupt, 0-23. */
  line(gsi: number): Line {
    return this.#wires[gsi].connect();
  }

  /** The test device's own source of each. */
  setTestLine(gsi: number, level: boolean): void {
    this.#tests[gsi](level);
  }
}
