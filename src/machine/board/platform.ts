/**
 * The PC around the CPUs: every device, how they are wired, and the bus they sit on. Lives on worker 0. Adding a device is
 * one class in src/devices/ and one `bus.register` line here.
 */
import { Bus } from '../../devices/bus.ts';
import { CpuHotplug } from '../../devices/cpu-hotplug.ts';
import { Crtc } from '../../devices/crtc.ts';
import { DebugConsole } from '../../devices/debug-console.ts';
import { DebugExit } from '../../devices/debug-exit.ts';
import type { Board, Device, DeviceEvent, ResetKind } from '../../devices/device.ts';
import { Firmware } from '../../devices/firmware.ts';
import { FW_CFG, FwCfg } from '../../devices/fw-cfg.ts';
import { I8042 } from '../../devices/i8042.ts';
import { IoApic } from '../../devices/ioapic.ts';
import { Pic } from '../../devices/pic.ts';
import { Pit } from '../../devices/pit.ts';
import { PowerManagement } from '../../devices/pm.ts';
import { ResetControl } from '../../devices/reset.ts';
import { Rtc } from '../../devices/rtc.ts';
import { Serial } from '../../devices/serial.ts';
import { TestDevice } from '../../devices/testdev.ts';
import type { BoardInspection } from '../inspection.ts';
import type { MachineConfig } from '../options.ts';
import type { DevicePort } from '../shared/mailbox.ts';
import { Console } from './console.ts';
import { type LoadedDevices, registerDevices } from './device-modules.ts';
import type { InterruptRouter } from './interrupt-router.ts';
import { SerialInput } from './serial-input.ts';
import { Wiring } from './wiring.ts';

/** The ICR's low word for INIT. */
const INIT = (5 << 8) | (1 << 14);
/** Delivery modes that end a HLT with interrupts off: SMI, NMI, INIT. */
const WAKES_HALTED: readonly number[] = [2, 4, 5];
const XAPIC_BROADCAST = 0xff;
const X2APIC_BROADCAST = 0xffff_ffff;

type Told = 'pic-interrupt' | 'power-off' | 'restart' | 'debug-exit' | 'ejected' | 'ost' | 'bios-call';
/** What the platform says to the rest of the machine. */
export type PlatformEvent =
  | Extract<DeviceEvent, { readonly type: Told }>
  /** What the serial port, or a debug console with an output of its own, put out. */
  | { readonly type: 'serial' | 'debug-output'; readonly bytes: Uint8Array }
  /** The guest asked for a reset of the whole machine. */
  | { readonly type: 'reset' };

/** What the devices need of the rest of the machine. */
export interface PlatformHost {
  readonly router: InterruptRouter;
  /** The I/O APIC's entries have destinations of 15 bits, not 8: only where CPUID offers it. */
  readonly extendedDestinations: boolean;
  nowNanos(): number;
  /** Main has dealt with every message. */
  mainIsIdle(): boolean;
  /** The VGA's picture begins at this cell of its text page. */
  screenMoved(startCell: number): void;
  report(event: PlatformEvent): void;
}

/** All devices as they are at one moment. */
export interface SavedPlatform {
  /** By the devices' names. */
  readonly devices: Readonly<Record<string, object>>;
  /** The sources of each interrupt wire. */
  readonly wires: readonly (readonly boolean[])[];
  /** Accesses that no device claimed: bytes read, bytes written. */
  readonly unclaimed: readonly [reads: number, writes: number];
}

export class Platform implements DevicePort {
  readonly #config: MachineConfig;
  readonly #host: PlatformHost;
  readonly #console: Console;
  /** The debug console's; the serial port's unless it has an output of its own. */
  readonly #debugConsole: Console;
  readonly #pm: PowerManagement;
  readonly #hotplug: CpuHotplug;
  readonly #input: SerialInput;
  readonly #bus = new Bus();
  readonly #ioapic: IoApic;
  readonly #pic: Pic;
  readonly #wiring: Wiring;
  #deadline = Number.POSITIVE_INFINITY;
  /** What the devices' clock shows instead of the host's, while they are saved and restored. */
  #standing: number | undefined;
  /** Something was done to a device since `#deadline` was asked for: asking all of them costs more than a small exit. */
  #touched = true;

  /**
   * @param ram guest memory from guest-physical address 0
   * @throws ConfigError for one of `extra` that cannot be there
   */
  constructor(config: MachineConfig, ram: Uint8Array, host: PlatformHost, extra: readonly LoadedDevices[] = []) {
    this.#config = config;
    this.#host = host;
    const console = (type: 'serial' | 'debug-output'): Console =>
      new Console((bytes) => host.report({ type, bytes }), host.nowNanos, host.mainIsIdle);
    this.#console = console('serial');
    this.#debugConsole = config.debugConsole === 'stderr' ? console('debug-output') : this.#console;
    const board: Board = {
      line: (gsi) => this.#wiring.line(gsi),
      msi: host.router.deliver,
      ram: (gpa, length) => (gpa + length <= ram.length ? ram.subarray(gpa, gpa + length) : undefined),
      now: () => this.#standing ?? host.nowNanos(),
      report: (event) => this.#report(event),
    };
    this.#pic = new Pic(board);
    this.#ioapic = new IoApic(board, { extendedDestination: host.extendedDestinations });
    this.#wiring = new Wiring(this.#pic, this.#ioapic);
    const serial = new Serial(board);
    this.#input = new SerialInput(serial);
    this.#hotplug = new CpuHotplug(board);
    this.#pm = new PowerManagement(board);
    const bus = this.#bus;
    bus.register(this.#ioapic);
    bus.register(this.#pic);
    bus.register(serial);
    bus.register(this.#hotplug);
    bus.register(new Pit(board));
    bus.register(
      new Rtc(board, {
        startSeconds: Math.floor(Date.now() / 1000),
        memory: { lowBytes: config.memoryBytes, highBytes: 0, cpus: config.cpus.length },
      }),
    );
    bus.register(this.#pm);
    bus.register(new I8042(board));
    bus.register(new ResetControl(board));
    bus.register(new Firmware(board));
    bus.register(new Crtc(host.screenMoved));
    if (config.debugConsole !== 'off') bus.register(new DebugConsole(board));
    bus.register(firmwareConfiguration(config, board));
    bus.register(new TestDevice(board));
    bus.register(new DebugExit(board));
    registerDevices(bus, board, extra);
  }

  /** Everything on the bus, in the order in which it is reset. */
  get devices(): readonly Device[] {
    return this.#bus.devices;
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

  /** Presses the fixed power button: what the guest makes of it is its affair. */
  pressPowerButton(): void {
    this.#touched = true;
    this.#pm.pressPowerButton();
  }

  /** Input for the serial port. @param taken called once its queue has all of `bytes` */
  type(bytes: Uint8Array, taken: () => void): void {
    this.#touched = true;
    this.#input.type(bytes, taken);
  }

  /** Hands over what the serial port and the debug console have put out so far. */
  flushConsole(): void {
    this.#console.flush();
    this.#debugConsole.flush();
  }

  /** Whether a device can do more to a CPU than interrupt it: through an I/O APIC entry of mode SMI, NMI or INIT. */
  canWakeHalted(): boolean {
    return this.#ioapic.entries().some(({ masked, command }) => !masked && WAKES_HALTED.includes((command >>> 8) & 7));
  }

  /** Nanoseconds of the machine's clock; Infinity when nothing is due. */
  deadlineNanos(): number {
    if (this.#touched) {
      this.#touched = false;
      this.#deadline = Math.min(
        this.#bus.nextDeadlineNanos(),
        this.#console.deadlineNanos(),
        this.#debugConsole.deadlineNanos(),
      );
    }
    return this.#deadline;
  }

  advance(nowNanos: number): void {
    this.#touched = true;
    this.#bus.advance(nowNanos);
    this.#console.advance(nowNanos);
    this.#debugConsole.advance(nowNanos);
  }

  /** Power-up state of every device; the hotplug slots and what was typed stay. */
  reset(): void {
    this.#touched = true;
    this.#bus.reset();
  }

  /** What the interrupt controllers hold, and how often nobody answered. */
  inspect(): BoardInspection {
    const { master, slave } = this.#pic.save();
    const pic = {
      requested: master.irr | (slave.irr << 8),
      masked: master.imr | (slave.imr << 8),
      inService: master.isr | (slave.isr << 8),
      output: this.#pic.output,
    };
    const { unclaimedReads, unclaimedWrites } = this.#bus;
    return { ioapic: this.#ioapic.entries(), pic, unclaimed: unclaimedReads + unclaimedWrites };
  }

  /** What was typed and waits for the serial port, as `type` was given it. */
  untyped(): readonly Uint8Array[] {
    return this.#input.rest;
  }

  /**
   * To be taken while no vCPU runs; what was put out is handed over first.
   * @param nanos the moment that it is the state of, on the machine's clock; what was typed and waits is not part of it
   */
  save(nanos = this.#host.nowNanos()): SavedPlatform {
    this.flushConsole();
    const { unclaimedReads, unclaimedWrites } = this.#bus;
    return this.#at(nanos, () => ({
      devices: Object.fromEntries(this.devices.map((device) => [device.name, device.save()])),
      wires: this.#wiring.save(),
      unclaimed: [unclaimedReads, unclaimedWrites],
    }));
  }

  /**
   * @param nanos the moment that is to be that of `save`: now, for a machine that stood still meanwhile
   * @throws RangeError for a device that has no state there
   */
  restore({ devices, wires, unclaimed }: SavedPlatform, nanos = this.#host.nowNanos()): void {
    this.#touched = true;
    this.#at(nanos, () => {
      this.#wiring.restore(wires);
      for (const device of this.devices) {
        const state = devices[device.name];
        if (state === undefined) throw new RangeError(`the saved machine has no device '${device.name}'`);
        device.restore(state);
      }
    });
    [this.#bus.unclaimedReads, this.#bus.unclaimedWrites] = unclaimed;
  }

  #at<Result>(nanos: number, action: () => Result): Result {
    this.#standing = nanos;
    try {
      return action();
    } finally {
      this.#standing = undefined;
    }
  }

  #report(event: DeviceEvent): void {
    switch (event.type) {
      case 'transmit':
        this.#console.put(event.byte);
        break;
      case 'debug-output':
        this.#debugConsole.put(event.byte);
        break;
      case 'input-room':
        this.#input.offer();
        break;
      case 'redirection':
        this.#host.router.entriesChanged(this.#ioapic);
        break;
      case 'reset':
        this.#reset(event.kind);
        break;
      default:
        this.#host.report(event);
    }
  }

  #reset(kind: ResetKind): void {
    if (kind === 'hard') {
      this.#host.report({ type: 'reset' });
      return;
    }
    // The INIT# line, as a message to all: what a PC's keyboard controller and chipset pull for a reset of the CPUs alone.
    const { router } = this.#host;
    router.deliver(XAPIC_BROADCAST, INIT);
    // With the quirk, that one reaches APICs in x2APIC mode too.
    if (this.#config.disableBroadcastQuirk) router.deliver(X2APIC_BROADCAST, INIT);
  }
}

function firmwareConfiguration(config: MachineConfig, board: Board): FwCfg {
  const fwCfg = new FwCfg(board);
  fwCfg.setNumber(FW_CFG.RAM_SIZE, config.memoryBytes, 8);
  fwCfg.setNumber(FW_CFG.CPU_COUNT, config.cpus.length, 2);
  // QEMU's meaning on x86: one more than the highest APIC ID that a CPU can have.
  fwCfg.setNumber(FW_CFG.MAX_CPUS, 1 + Math.max(...config.cpus, ...config.hotpluggable), 2);
  return fwCfg;
}
