// A million random accesses to each device, through the bus as a guest makes them: nothing throws, no value exceeds its
// size, deadlines are numbers that lie ahead once the clock was advanced, and the heap does not grow. The generator is
// seeded, so that a failure repeats: APIARY_FUZZ_SEED and APIARY_FUZZ_ACCESSES change it.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { Bus } from '../../../src/devices/bus.ts';
import { CpuHotplug } from '../../../src/devices/cpu-hotplug.ts';
import { DebugExit } from '../../../src/devices/debug-exit.ts';
import type { Device } from '../../../src/devices/device.ts';
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

const SEED = Number(process.env.APIARY_FUZZ_SEED ?? 1);
const ACCESSES = Number(process.env.APIARY_FUZZ_ACCESSES ?? 1_000_000);

/** What may remain on the heap after a run: a byte for each access would be noticed. */
const GROWTH_BYTES = 1_000_000;

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

function heapBytes(): number {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** xorshift32: unsigned 32-bit numbers, never 0. */
class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
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

/** The outside world of the device under test: a clock that jumps, and counters of what came out. */
class World {
  now = 0;
  calls = 0;
  /** Anything but levels going back and forth is a bug: a line is driven only when it changes. */
  readonly line = (): ((level: boolean) => void) => {
    let last = false;
    return (level) => {
      if (level === last) throw new Error('a line was driven to the level it had');
      last = level;
      this.calls++;
    };
  };
  readonly clock = (): number => this.now;
  readonly call = (): void => {
    this.calls++;
  };
}

/** The device, and what the host does to it now and then. */
interface Case {
  device: Device;
  host?: (random: Random) => void;
}

const devices: Record<string, (world: World) => Case> = {
  'debug exit': (world) => ({ device: new DebugExit(world.call) }),
  serial: (world) => {
    const serial = new Serial({ transmit: world.call, interrupt: world.line(), onInputRoom: world.call });
    const input = new Uint8Array(300);
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
    const block = new CpuHotplug({ interrupt: world.line(), onEject: world.call, onOst: world.call });
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
    const ioapic = new IoApic({
      deliver: (interrupt) => {
        world.calls++;
        return (interrupt.vector % 3) - 1;
      },
      now: world.clock,
      extendedDestination: true,
    });
    return {
      device: ioapic,
      host: (random) => {
        ioapic.setLine(random.below(26) - 1, random.below(32), random.below(2) === 1);
        ioapic.eoi(random.below(256));
      },
    };
  },
  PIC: (world) => {
    const pic = new Pic(world.line());
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
  PIT: (world) => ({ device: new Pit({ now: world.clock, interrupt: world.line() }) }),
  RTC: (world) => ({ device: new Rtc({ now: world.clock, startSeconds: 1_700_000_000, interrupt: world.line() }) }),
  PM: (world) => {
    const pm = new PowerManagement({ now: world.clock, sci: world.line(), onPowerOff: world.call });
    const event = pm.gpe(2);
    return {
      device: pm,
      host: (random) => {
        event(random.below(2) === 1);
        if (random.below(8) === 0) pm.pressPowerButton();
      },
    };
  },
  'keyboard controller': (world) => ({
    device: new I8042({ onReset: world.call, keyboardInterrupt: world.line(), mouseInterrupt: world.line() }),
  }),
  'reset control': (world) => ({ device: new ResetControl(world.call) }),
  fw_cfg: () => {
    const ram = new Uint8Array(0x10000);
    const fwCfg = new FwCfg((gpa, length) =>
      gpa + length <= ram.length ? ram.subarray(gpa, gpa + length) : undefined,
    );
    fwCfg.set(FW_CFG.KERNEL_DATA, new Uint8Array(5000));
    fwCfg.addFile('opt/fuzz', new Uint8Array(77));
    return {
      device: fwCfg,
      host: (random) => {
        // Access structures that make sense now and then: aligned, a known command, a target in memory.
        const view = new DataView(ram.buffer, random.below(16) * 0x1000, 16);
        view.setUint32(0, (random.below(0x30) << 16) | random.below(32));
        view.setUint32(4, random.below(0x3000));
        view.setUint32(8, 0);
        view.setUint32(12, random.below(0x10000));
      },
    };
  },
  'test device': (world) => ({ device: new TestDevice(world.call) }),
};

/** Sizes of accesses; 4 as often as 1, since some registers take nothing else. */
const SIZES = [1, 1, 1, 2, 4, 4] as const;
const INTERESTING = [0, 1, 2, 4, 0x0b, 0x10, 0x20, 0x34, 0x80, 0x8000, 0x1008000, 0xff] as const;

/** One access of the bus, as random as it gets. @returns a complaint, or undefined */
function access(bus: Bus, device: Device, random: Random): string | undefined {
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
  const fits = Number.isInteger(read) && read >= 0 && read < 256 ** size;
  return fits ? undefined : `read of ${size} at 0x${address.toString(16)} gave ${read}`;
}

/** Lets time pass, from nothing to seconds, as the run loop would. @returns a complaint, or undefined */
function passTime(bus: Bus, world: World, random: Random): string | undefined {
  world.now += random.below(2) === 0 ? random.below(1000) : random.next();
  const before = bus.nextDeadlineNanos();
  if (Number.isNaN(before)) return 'a deadline that is not a number';
  bus.advance(world.now);
  const after = bus.nextDeadlineNanos();
  return after > world.now ? undefined : `deadline ${after} not ahead of ${world.now} after advancing`;
}

describe(`${ACCESSES} random accesses, seed ${SEED}`, () => {
  test.each(Object.entries(devices))('%s: nothing throws, every value fits, time goes on', (_name, make) => {
    const world = new World();
    const random = new Random(SEED);
    const { device, host } = make(world);
    const bus = new Bus();
    bus.register(device);
    const complaints: string[] = [];
    const heapBefore = heapBytes();
    for (let i = 0; i < ACCESSES && complaints.length === 0; i++) {
      const complaint = access(bus, device, random);
      if (complaint !== undefined) complaints.push(complaint);
      if (i % 8 === 0) host?.(random);
      if (i % 16 === 0) {
        const late = passTime(bus, world, random);
        if (late !== undefined) complaints.push(late);
      }
      if (i % 65_536 === 65_535) bus.reset();
    }
    expect(complaints).toEqual([]);
    expect(heapBytes() - heapBefore).toBeLessThan(GROWTH_BYTES);
  });
});
