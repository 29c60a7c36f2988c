// A million random accesses to each device, through the bus as a guest makes them: nothing throws, no value exceeds its
// size, deadlines are numbers that lie ahead once the clock was advanced, and the heap does not grow. The generator is
// seeded, so that a failure repeats: APIARY_FUZZ_SEED and APIARY_FUZZ_ACCESSES change it.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, test } from 'vitest';
import { Bus } from '../../../src/devices/bus.ts';
import { access, DEVICES, passTime, Random, World } from './fuzzing.ts';

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

describe(`${ACCESSES} random accesses, seed ${SEED}`, () => {
  test.each(Object.entries(DEVICES))('%s: nothing throws, every value fits, time goes on', (_name, make) => {
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
