/**
 * The PC around the CPUs: every device, how they are wired, and the bus they sit on. Lives on worker 0. Adding a device is
 * one `bus.register` line here.
 */
import { Bus } from '../devices/bus.ts';
import { CpuHotplug } from '../devices/cpu-hotplug.ts';
import { DebugExit } from '../devices/debug-exit.ts';
import { IoApic } from '../devices/ioapic.ts';
import { Serial } from '../devices/serial.ts';
import { Console } from './console.ts';
import type { EndMachine } from './exits.ts';
import type { InterruptRouter } from './interrupt-router.ts';
import type { DevicePort } from './mailbox.ts';
import type { MachineConfig } from './options.ts';

/** I/O APIC pins. */
const Gsi = { serial: 4, cpuHotplug: 20 } as const;

export interface PlatformHooks {
  readonly router: InterruptRouter;
  nowNanos(): number;
  readonly end: EndMachine;
  serialOutput(bytes: Uint8Array): void;
  ejected(slot: number): void;
  ost(slot: number, event: number, status: number): void;
}

export class Platform implements DevicePort {
  readonly bus = new Bus();
  readonly console: Console;
  readonly hotplug: CpuHotplug;
  readonly #ioapic: IoApic;
  readonly #serial: Serial;
  readonly #input: { bytes: Uint8Array; taken: () => void }[] = [];

  constructor(_config: MachineConfig, hooks: PlatformHooks) {
    const { router } = hooks;
    this.console = new Console(hooks.serialOutput, hooks.nowNanos);
    this.#ioapic = new IoApic({
      deliver: router.deliver,
      now: hooks.nowNanos,
      onEntryChange: () => router.entriesChanged(this.#ioapic),
      extendedDestination: true,
    });
    this.#serial = new Serial({
      transmit: (byte) => this.console.put(byte),
      interrupt: this.#ioapic.connect(Gsi.serial),
      onInputRoom: () => this.#offerInput(),
    });
    this.hotplug = new CpuHotplug({
      interrupt: this.#ioapic.connect(Gsi.cpuHotplug),
      onEject: hooks.ejected,
      onOst: hooks.ost,
    });
    this.bus.register(this.#ioapic);
    this.bus.register(this.#serial);
    this.bus.register(this.hotplug);
    this.bus.register(new DebugExit((status) => hooks.end('debug-exit', status)));
  }

  read(space: 'pio' | 'mmio', address: number, size: number): number {
    if (space === 'pio') return this.bus.readPort(address, size);
    if (size <= 4) return this.bus.readMmio(address, size);
    return this.bus.readMmio(address, 4) + this.bus.readMmio(address + 4, 4) * 2 ** 32;
  }

  write(space: 'pio' | 'mmio', address: number, size: number, value: number): void {
    if (space === 'pio') this.bus.writePort(address, size, value);
    else if (size <= 4) this.bus.writeMmio(address, size, value);
    else {
      this.bus.writeMmio(address, 4, value >>> 0);
      this.bus.writeMmio(address + 4, 4, Math.floor(value / 2 ** 32) >>> 0);
    }
  }

  endOfInterrupt(vector: number): void {
    this.#ioapic.eoi(vector);
  }

  /** No PIC yet: the spurious vector that an 8259 gives when nothing is pending. */
  acknowledgePic(): number {
    return 7;
  }

  /** Nanoseconds of the machine's clock; Infinity when nothing is due. */
  deadlineNanos(): number {
    return Math.min(this.bus.nextDeadlineNanos(), this.console.deadlineNanos());
  }

  advance(nowNanos: number): void {
    this.bus.advance(nowNanos);
    this.console.advance(nowNanos);
  }

  /** @param taken called once the UART's queue has all of `bytes` */
  serialInput(bytes: Uint8Array, taken: () => void): void {
    this.#input.push({ bytes, taken });
    this.#offerInput();
  }

  #offerInput(): void {
    for (let item = this.#input[0]; item !== undefined; item = this.#input[0]) {
      item.bytes = item.bytes.subarray(this.#serial.receive(item.bytes));
      if (item.bytes.length > 0) return;
      this.#input.shift();
      item.taken();
    }
  }
}
