/**
 * The PC around the CPUs: every device, how they are wired, and the bus they sit on. Lives on worker 0. Adding a device is
 * one class in src/devices/ and one `bus.register` line here.
 */
import { FIRMWARE_START_PORT } from '../../boot/index.ts';
import { Bus } from '../../devices/bus.ts';
import { CpuHotplug } from '../../devices/cpu-hotplug.ts';
import { DebugExit } from '../../devices/debug-exit.ts';
import { FirmwareStart } from '../../devices/firmware-start.ts';
import { FW_CFG, FwCfg } from '../../devices/fw-cfg.ts';
import { I8042 } from '../../devices/i8042.ts';
import { IoApic } from '../../devices/ioapic.ts';
import { Pic } from '../../devices/pic.ts';
import { Pit } from '../../devices/pit.ts';
import { PowerManagement } from '../../devices/pm.ts';
import { ResetControl, type ResetKind } from '../../devices/reset.ts';
import { Rtc } from '../../devices/rtc.ts';
import { Serial } from '../../devices/serial.ts';
import { TestDevice } from '../../devices/testdev.ts';
import type { MachineConfig } from '../options.ts';
import type { DevicePort } from '../shared/mailbox.ts';
import { Console } from './console.ts';
import type { InterruptRouter } from './interrupt-router.ts';
import { SerialInput } from './serial-input.ts';
import { Gsi, Wiring } from './wiring.ts';

const INIT = 5;
const XAPIC_BROADCAST = 0xff;
const X2APIC_BROADCAST = 0xffff_ffff;

/** What the devices say to the rest of the machine. */
export type PlatformEvent =
  | { readonly type: 'serial'; readonly bytes: Uint8Array }
  | { readonly type: 'end'; readonly reason: 'debug-exit' | 'shutdown'; readonly status: number }
  /** The guest asked for a reset of the machine. */
  | { readonly type: 'reset' }
  /** The firmware wants the image started again; devices stay as they are. */
  | { readonly type: 'restart' }
  | { readonly type: 'ejected'; readonly slot: number }
  | { readonly type: 'ost'; readonly slot: number; readonly event: number; readonly status: number };

/** What the devices need of the rest of the machine. */
export interface PlatformHost {
  readonly router: InterruptRouter;
  nowNanos(): number;
  /** The PICs' INTR line. */
  picInterrupt(level: boolean): void;
  /** Main has dealt with every message. */
  mainIsIdle(): boolean;
  report(event: PlatformEvent): void;
}

export class Platform implements DevicePort {
  readonly #console: Console;
  readonly #hotplug: CpuHotplug;
  readonly #input: SerialInput;
  readonly #bus = new Bus();
  readonly #ioapic: IoApic;
  readonly #pic: Pic;
  #deadline = Number.POSITIVE_INFINITY;
  /** Something was done to a device since `#deadline` was asked for: asking all of them costs more than a small exit. */
  #touched = true;

  /** @param ram guest memory from guest-physical address 0 */
  constructor(config: MachineConfig, ram: Uint8Array, host: PlatformHost) {
    const { router, nowNanos: now } = host;
    this.#console = new Console((bytes) => host.report({ type: 'serial', bytes }), now, host.mainIsIdle);
    this.#pic = new Pic(host.picInterrupt);
    this.#ioapic = new IoApic({
      deliver: router.deliver,
      now,
      onEntryChange: () => router.entriesChanged(this.#ioapic),
      extendedDestination: true,
    });
    const wiring = new Wiring(this.#pic, this.#ioapic);
    const serial = new Serial({
      transmit: (byte) => this.#console.put(byte),
      interrupt: wiring.line(Gsi.serial),
      onInputRoom: () => this.#input.offer(),
    });
    this.#input = new SerialInput(serial);
    this.#hotplug = new CpuHotplug({
      interrupt: wiring.line(Gsi.cpuHotplug),
      onEject: (slot) => host.report({ type: 'ejected', slot }),
      onOst: (slot, event, status) => host.report({ type: 'ost', slot, event, status }),
    });
    const onReset = (kind: ResetKind): void =>
      kind === 'hard' ? host.report({ type: 'reset' }) : initEveryCpu(router, config);
    const end = (reason: 'debug-exit' | 'shutdown', status: number): void =>
      host.report({ type: 'end', reason, status });
    const bus = this.#bus;
    bus.register(this.#ioapic);
    bus.register(this.#pic);
    bus.register(serial);
    bus.register(this.#hotplug);
    bus.register(new Pit({ now, interrupt: wiring.line(Gsi.timer) }));
    bus.register(
      new Rtc({
        now,
        startSeconds: Math.floor(Date.now() / 1000),
        interrupt: wiring.line(Gsi.rtc),
        memory: { lowBytes: config.memoryBytes, highBytes: 0, cpus: config.cpus.length },
      }),
    );
    bus.register(new PowerManagement({ now, sci: wiring.line(Gsi.sci), onPowerOff: () => end('shutdown', 0) }));
    bus.register(
      new I8042({
        onReset,
        keyboardInterrupt: wiring.line(Gsi.keyboard),
        mouseInterrupt: wiring.line(Gsi.mouse),
      }),
    );
    bus.register(new ResetControl(onReset));
    bus.register(new FirmwareStart(FIRMWARE_START_PORT, () => host.report({ type: 'restart' })));
    bus.register(firmwareConfiguration(config, ram));
    bus.register(new TestDevice((gsi, level) => wiring.setTestLine(gsi, level)));
    bus.register(new DebugExit((status) => end('debug-exit', status)));
  }

  read(space: 'pio' | 'mmio', address: number, size: number): number {
    this.#touched = true;
    return space === 'pio' ? this.#bus.readPort(address, size) : this.#bus.readMmio(address, size);
  }

  write(space: 'pio' | 'mmio', address: number, size: number, value: number): void {
    this.#touched = true;
    if (space === 'pio') this.#bus.writePort(address, size, value);
    else this.#bus.writeMmio(address, size, value);
  }

  endOfInterrupt(vector: number): void {
    this.#touched = true;
    this.#ioapic.eoi(vector);
  }

  acknowledgePic(): number {
    return this.#pic.acknowledge();
  }

  /** A CPU that can come: its slot in the register block. */
  addSlot(apicId: number, enabled: boolean): void {
    this.#hotplug.addSlot(apicId, enabled);
  }

  /** A CPU has come into the slot: tells the guest. */
  plug(slot: number): void {
    this.#touched = true;
    this.#hotplug.plug(slot);
  }

  /** Asks the guest to eject the CPU. */
  requestUnplug(slot: number): void {
    this.#touched = true;
    this.#hotplug.requestUnplug(slot);
  }

  /** Input for the serial port. @param taken called once its queue has all of `bytes` */
  type(bytes: Uint8Array, taken: () => void): void {
    this.#touched = true;
    this.#input.type(bytes, taken);
  }

  /** Hands over what the serial port has put out so far. */
  flushConsole(): void {
    this.#console.flush();
  }

  /** Nanoseconds of the machine's clock; Infinity when nothing is due. */
  deadlineNanos(): number {
    if (this.#touched) {
      this.#touched = false;
      this.#deadline = Math.min(this.#bus.nextDeadlineNanos(), this.#console.deadlineNanos());
    }
    return this.#deadline;
  }

  advance(nowNanos: number): void {
    this.#touched = true;
    this.#bus.advance(nowNanos);
    this.#console.advance(nowNanos);
  }

  /** Power-up state of every device; the hotplug slots and what was typed stay. */
  reset(): void {
    this.#touched = true;
    this.#bus.reset();
  }
}

/** The INIT# line, as a message to all: what a PC's keyboard controller and chipset pull for a reset of the CPUs alone. */
function initEveryCpu(router: InterruptRouter, config: MachineConfig): void {
  const init = { logical: false, deliveryMode: INIT, vector: 0, levelTriggered: false };
  router.deliver({ ...init, destination: XAPIC_BROADCAST });
  // With the quirk, that one reaches APICs in x2APIC mode too.
  if (config.disableBroadcastQuirk) router.deliver({ ...init, destination: X2APIC_BROADCAST });
}

function firmwareConfiguration(config: MachineConfig, ram: Uint8Array): FwCfg {
  const fwCfg = new FwCfg((gpa, length) => (gpa + length <= ram.length ? ram.subarray(gpa, gpa + length) : undefined));
  fwCfg.setNumber(FW_CFG.RAM_SIZE, config.memoryBytes, 8);
  fwCfg.setNumber(FW_CFG.CPU_COUNT, config.cpus.length, 2);
  // QEMU's meaning on x86: one more than the highest APIC ID that a CPU can have.
  fwCfg.setNumber(FW_CFG.MAX_CPUS, 1 + Math.max(...config.cpus, ...config.hotpluggable), 2);
  return fwCfg;
}
