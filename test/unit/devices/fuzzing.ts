/** What random tests of devices share: a seeded generator, a board, every device with what its host does to it, an access. */
import type { Bus } from '../../../src/devices/bus.ts';
import { CpuHotplug } from '../../../src/devices/cpu-hotplug.ts';
import { Crtc } from '../../../src/devices/crtc.ts';
import { DebugConsole } from '../../../src/devices/debug-console.ts';
import { DebugExit } from '../../../src/devices/debug-exit.ts';
import type { Board, Device, DeviceEvent, Line } from '../../../src/devices/device.ts';
import { Firmware } from '../../../src/devices/firmware.ts';
import { FW_CFG, FwCfg } from '../../../src/devices/fw-cfg.ts';
import { I8042 } from '../../../src/devices/i8042.ts';
import { IoApic } from '../../../src/devices/ioapic.ts';
import { Pic } from '../../../src/devices/pic.ts';
import { Pit } from '../../../src/devices/pit.ts';
import { PowerManagement } from '../../../src/devices/pm.ts';
import { ResetControl } from '../../../src/devices/reset.ts';
import { Rtc } from '../../../src/devices/rtc.ts';
import { Serial } from '../../../src/devices/serial.ts';
import { TestDevice } from '../../../src/devices/testdev.ts';

/** xorshift32: unsigned 32-bit numbers, never 0. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }
  /** Where it is: another one made of that goes on the same. */
  get seed(): number {
    return this.#state;
  }
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }
  /** 0 to `limit` - 1 */
  below(limit: number): number {
    return this.next() % limit;
  }
}

/** The outside world of the device under test: a clock that jumps, memory, and a count of what came out. */
export class World implements Board {
  nanos = 0;
  calls = 0;
  readonly memory = new Uint8Array(0x10000);
  /** The level of each line. Driving one to the level it has is a bug, but for the test device, where the guest does it. */
  readonly levels = new Map<number, boolean>();
  strict = true;
  /** Everything that came out, where it is kept. */
  log: string[] | undefined;

  line(gsi: number): Line {
    if (!this.levels.has(gsi)) this.levels.set(gsi, false);
    return (level) => {
      if (this.strict && level === this.levels.get(gsi)) throw new Error('a line was driven to the level it had');
      this.levels.set(gsi, level);
      this.calls++;
      this.log?.push(`line ${gsi} ${level}`);
    };
  }

  msi(destination: number, command: number): number {
    this.calls++;
    this.log?.push(`message ${destination} ${command}`);
    return (command % 3) - 1;
  }

  ram(gpa: number, length: number): Uint8Array | undefined {
    return gpa + length <= this.memory.length ? this.memory.subarray(gpa, gpa + length) : undefined;
  }

  now(): number {
    return this.nanos;
  }

  report(event: DeviceEvent): void {
    this.calls++;
    this.log?.push(JSON.stringify(event));
  }
}

/** A device, and what the host does to it now and then. */
export interface Case {
  device: Device;
  host?: (random: Random) => void;
}

export const DEVICES: Record<string, (world: World) => Case> = {
  'debug exit': (world) => ({ device: new DebugExit(world) }),
  firmware: (world) => ({ device: new Firmware(world) }),
  crtc: () => ({ device: new Crtc(() => {}) }),
  'debug console': (world) => ({ device: new DebugConsole(world) }),
  serial: (world) => {
    const serial = new Serial(world);
    const input = Uint8Array.from({ length: 300 }, (_, index) => index);
    return {
      device: serial,
      host: (random) => {
        const offered = input.subarray(0, random.below(300));
        const taken = serial.receive(offered);
        if (taken < 0 || taken > offered.length) throw new Error(`receive took ${taken} of ${offered.length} bytes`);
      },
    };
  },
  'cpu hotplug': (world) => {
    const block = new CpuHotplug(world);
    for (let slot = 0; slot < 40; slot++) block.addSlot(slot * 7, slot < 20);
    return {
      device: block,
      host: (random) => {
        block.plug(random.below(41));
        block.requestUnplug(random.below(41));
      },
    };
  },
  'I/O APIC': (world) => {
    const ioapic = new IoApic(world, { extendedDestination: true });
    return {
      device: ioapic,
      host: (random) => {
        ioapic.setLine(random.below(26) - 1, random.below(32), random.below(2) === 1);
        ioapic.eoi(random.below(256));
      },
    };
  },
  PIC: (world) => {
    const pic = new Pic(world);
    return {
      device: pic,
      host: (random) => {
        pic.setLine(random.below(18) - 1, random.below(2) === 1);
        if (random.below(4) === 0) {
          const vector = pic.acknowledge();
          if (vector < 0 || vector > 255) throw new Error(`vector ${vector}`);
        }
      },
    };
  },
  PIT: (world) => ({ device: new Pit(world) }),
  RTC: (world) => ({ device: new Rtc(world, { startSeconds: 1_700_000_000 }) }),
  PM: (world) => {
    const pm = new PowerManagement(world);
    const event = pm.gpe(2);
    return {
      device: pm,
      host: (random) => {
        event(random.below(2) === 1);
        if (random.below(8) === 0) pm.pressPowerButton();
      },
    };
  },
  'keyboard controller': (world) => ({ device: new I8042(world) }),
  'reset control': (world) => ({ device: new ResetControl(world) }),
  fw_cfg: (world) => {
    const fwCfg = new FwCfg(world);
    fwCfg.set(
      FW_CFG.KERNEL_DATA,
      Uint8Array.from({ length: 5000 }, (_, index) => index),
    );
    fwCfg.addFile('opt/fuzz', new Uint8Array(77).fill(7));
    return {
      device: fwCfg,
      host: (random) => {
        // Access structures that make sense now and then: aligned, a known command, a target in memory.
        const view = new DataView(world.memory.buffer, random.below(16) * 0x1000, 16);
        view.setUint32(0, (random.below(0x30) << 16) | random.below(32));
        view.setUint32(4, random.below(0x3000));
        view.setUint32(8, 0);
        view.setUint32(12, random.below(0x10000));
      },
    };
  },
  'test device': (world) => {
    world.strict = false;
    return { device: new TestDevice(world) };
  },
};

/** Sizes of accesses; 4 as often as 1, since some registers take nothing else. */
const SIZES = [1, 1, 1, 2, 4, 4] as const;
const INTERESTING = [0, 1, 2, 4, 0x0b, 0x10, 0x20, 0x34, 0x80, 0x8000, 0x1008000, 0xff] as const;

/** One access of the bus, as random as it gets. @returns a complaint, or undefined */
export function access(bus: Bus, device: Device, random: Random, log?: string[]): string | undefined {
  const range = device.ranges[random.below(device.ranges.length)];
  if (range === undefined) return 'a device without ranges';
  const size = SIZES[random.below(SIZES.length)] ?? 1;
  const address = range.base + random.below(range.length);
  const value = random.below(2) === 0 ? random.next() : (INTERESTING[random.below(INTERESTING.length)] ?? 0);
  if (random.below(2) === 0) {
    if (range.space === 'pio') bus.writePort(address, size, value);
    else bus.writeMmio(address, size, value);
    return undefined;
  }
  const read = range.space === 'pio' ? bus.readPort(address, size) : bus.readMmio(address, size);
  log?.push(`read ${read}`);
  const fits = Number.isInteger(read) && read >= 0 && read < 256 ** size;
  return fits ? undefined : `read of ${size} at 0x${address.toString(16)} gave ${read}`;
}

/** Lets time pass, from nothing to seconds, as the run loop would. @returns a complaint, or undefined */
export function passTime(bus: Bus, world: World, random: Random): string | undefined {
  world.nanos += random.below(2) === 0 ? random.below(1000) : random.next();
  const before = bus.nextDeadlineNanos();
  if (Number.isNaN(before)) return 'a deadline that is not a number';
  bus.advance(world.nanos);
  const after = bus.nextDeadlineNanos();
  return after > world.nanos ? undefined : `deadline ${after} not ahead of ${world.nanos} after advancing`;
}
