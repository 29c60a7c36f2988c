// Every device can be kept: after random use it is saved, and restored into a new one at another time. From then on both are
// given the same: every read, every line, message and report, and every deadline must be the same too.
import { describe, expect, test } from 'vitest';
import { Bus } from '../../../src/devices/bus.ts';
import { access, DEVICES, passTime, Random, World } from './fuzzing.ts';

const SEED = Number(process.env.APIARY_FUZZ_SEED ?? 1);
const ACCESSES = 1000;
/** The other machine's clock is somewhere else. */
const LATER_NANOS = 12_345_678_901;

interface Machine {
  readonly world: World;
  readonly bus: Bus;
  readonly use: (random: Random, accesses: number) => void;
}

function make(name: string, start: number): Machine {
  const world = new World();
  world.nanos = start;
  const { device, host } = DEVICES[name](world);
  const bus = new Bus();
  bus.register(device);
  const use = (random: Random, accesses: number): void => {
    const { log } = world;
    for (let i = 0; i < accesses; i++) {
      const complaint = access(bus, device, random, log) ?? (i % 16 === 0 ? passTime(bus, world, random) : undefined);
      if (complaint !== undefined) throw new Error(complaint);
      if (i % 8 === 0) host?.(random);
      log?.push(`deadline ${bus.nextDeadlineNanos() - world.nanos}`);
      if (i % 1000 === 999) bus.reset();
    }
  };
  return { world, bus, use };
}

/** Every byte of every range, as a guest would read it. */
function readAll({ bus }: Machine): number[] {
  return bus.devices.flatMap(({ ranges }) =>
    ranges.flatMap(({ space, base, length }) =>
      Array.from({ length: Math.min(length, 0x200) }, (_, at) =>
        space === 'pio' ? bus.readPort(base + at, 1) : bus.readMmio(base + at, 1),
      ),
    ),
  );
}

describe.each(Object.keys(DEVICES))('%s', (name) => {
  test.each([0, 1, 2])('saved and restored after random use, seed + %i: goes on as the other does', (offset) => {
    const random = new Random(SEED * 1000 + offset);
    const first = make(name, 5_000_000);
    first.use(random, 100 + random.below(900));
    const device = first.bus.devices[0];
    const saved = device.save();
    expect(JSON.parse(JSON.stringify(saved))).toEqual(saved);

    const second = make(name, first.world.nanos + LATER_NANOS);
    second.world.memory.set(first.world.memory);
    for (const [gsi, level] of first.world.levels) second.world.levels.set(gsi, level);
    second.bus.devices[0].restore(JSON.parse(JSON.stringify(saved)));
    expect(second.bus.devices[0].save()).toEqual(saved);

    const deadline = ({ bus, world }: Machine): number => bus.nextDeadlineNanos() - world.nanos;
    expect(deadline(second)).toBe(deadline(first));
    first.world.log = [];
    second.world.log = [];
    expect(readAll(second)).toEqual(readAll(first));
    const further = random.seed;
    first.use(new Random(further), ACCESSES);
    second.use(new Random(further), ACCESSES);
    expect(second.world.log.join('\n')).toBe(first.world.log.join('\n'));
    expect(second.world.memory).toEqual(first.world.memory);
  });
});
