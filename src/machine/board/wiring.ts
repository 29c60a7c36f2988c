/**
 * How interrupt lines run in this PC: each ISA interrupt to both the 8259s and the I/O APIC (IRQ 0 to pin 2), pins from 16
 * on to the I/O APIC alone.
 */
import type { Line } from '../../devices/device.ts';
import type { IoApic } from '../../devices/ioapic.ts';
import type { Pic } from '../../devices/pic.ts';
import { Wire } from '../../devices/wire.ts';
import { GSI, GSI_COUNT, ISA_INTERRUPTS, TIMER_PIN } from '../../platform.ts';

export class Wiring {
  readonly #wires: readonly Wire[];

  constructor(pic: Pic, ioapic: IoApic) {
    this.#wires = Array.from({ length: GSI_COUNT }, (_, gsi) => {
      const pin = ioapic.connect(gsi === GSI.TIMER ? TIMER_PIN : gsi);
      return gsi < ISA_INTERRUPTS && gsi !== GSI.CASCADE ? new Wire(pic.line(gsi), pin) : new Wire(pin);
    });
  }

  /** One more source of a global system interrupt, 0-23. @throws RangeError for another */
  line(gsi: number): Line {
    const wire = this.#wires[gsi];
    if (wire === undefined) throw new RangeError(`there is no GSI ${gsi}: give 0 to ${this.#wires.length - 1}`);
    return wire.connect();
  }

  /** The level of every source of every interrupt. */
  save(): boolean[][] {
    return this.#wires.map((wire) => wire.save());
  }

  /** Drives nothing: both ends of the wires are restored too. */
  restore(sources: readonly (readonly boolean[])[]): void {
    this.#wires.forEach((wire, gsi) => {
      wire.restore(sources[gsi]);
    });
  }
}
