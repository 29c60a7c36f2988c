/**
 * Layer 2 on whole machines: the lists of guest/oplist.S by its dialogue, on `Machine` with its workers, scheduler and
 * boot, once with our APICs and once with KVM's. What the rigs of layer 2 leave out is all here; what needs a hand from
 * outside (INIT, a state to start with) is left to them.
 */
import { Machine } from 'apiary';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PAGE_BYTES, REG, REGISTERS } from '../../src/apic/index.ts';
import { describeOperation } from '../../src/conform/describe.ts';
import { deliveryMode } from '../../src/conform/operations.ts';
import { freshSeed } from '../../src/conform/random.ts';
import { GuestList } from '../../src/conform/registers/guest-list.ts';
import { OplistMemory } from '../../src/conform/registers/oplist.ts';
import { STEPS } from '../../src/conform/registers/steps.ts';
import type { GuestOperation, Result, Taken } from '../../src/conform/spec.ts';
import { say, whyNoKvm } from './campaign.ts';

const OPLIST = new URL('../../guest/build/oplist.elf', import.meta.url).pathname;
const LISTS = 12;
const CPUS = [0, 1];
const XAPIC = 0xfee00800;
const END = 0xffffffff;
const PATIENCE_MILLIS = 30_000;
/** Fixed, lowest priority and ExtINT; the others stop CPUs, or come when they like. */
const QUIET_MODES = [-1, 0, 1, 7];
const X2APIC_TMCCT = 0x800 + (REG.TMCCT >> 4);

interface Outcome {
  readonly results: Result[];
  readonly taken: Taken[][];
  readonly registers: Record<string, unknown>[];
}

/** Operations whose result is the same however fast the host is, and wherever they are interrupted. */
function isSteady(operation: GuestOperation): boolean {
  const { kind, address, size, unit } = operation;
  if (unit === undefined || !QUIET_MODES.includes(deliveryMode(operation))) return false;
  const register = kind === 'mmio-read' ? address % PAGE_BYTES : kind === 'rdmsr' ? (address - 0x800) << 4 : 0;
  if (address === X2APIC_TMCCT || register === REG.TMCCT || register === REG.LVT_CMCI) return false;
  if (kind === 'mmio-read')
    return size === 4 && REGISTERS.some((each) => each.offset === register && each.xapic.includes('r'));
  return true;
}

const makeList = (seed: number, khz: number): GuestOperation[] => {
  const [[cr8, steps]] = fc.sample(fc.tuple(fc.boolean(), STEPS), { seed, numRuns: 1 });
  const apics = CPUS.map((apicId) => ({ apicId, baseLow: XAPIC, baseHigh: 0, registers: [] }));
  const list = new GuestList(apics, { khz, high: 0 }, { cr8, wholeTpr: false });
  for (const [cpu, step] of steps) list.add(step, cpu);
  // Handlers that EOI: then it does not show whether a host's KVM records what is in service.
  const steady = list.operations.filter(isSteady).map((each) => (each.kind === 'window' ? { ...each, size: 0 } : each));
  return [...steady, ...CPUS.map((cpu) => ({ kind: 'window', cpu, size: 0, address: 0, low: 0, high: 0 }) as const)];
};

async function until(what: string, condition: () => boolean): Promise<void> {
  for (const start = Date.now(); !condition(); ) {
    if (Date.now() - start > PATIENCE_MILLIS) throw new Error(`waited in vain for ${what}`);
    await new Promise((wake) => setTimeout(wake, 1));
  }
}

/** A machine that has just booted, one list, and its end. */
async function carryOut(apic: 'user' | 'kernel', operations: readonly GuestOperation[]): Promise<Outcome> {
  const machine = await Machine.create({
    apic,
    cpus: CPUS,
    memory: '8M',
    cpu: 'host,+tsc_deadline_timer',
    x2apicApi: { use32bitIds: true },
    timeoutMs: PATIENCE_MILLIS,
  });
  const words = new Int32Array(machine.memory.buffer, machine.memory.byteOffset, machine.memory.length >> 2);
  const [sequence, count, finished, cpus] = [0, 4, 8, 12].map((offset) => (0x200000 + offset) >> 2);
  await machine.load(OPLIST);
  const memory = new OplistMemory(machine.memory);
  const end = machine.run();
  const ended = end.then(({ detail, status }) => {
    throw new Error(`the guest ended with ${status}: ${detail}`);
  });
  ended.catch(() => {});
  const dialogue = async (): Promise<Outcome> => {
    await until('the guest', () => memory.entry !== 0);
    expect(words[cpus]).toBe(CPUS.length);
    memory.putList(operations, CPUS.length);
    Atomics.store(words, sequence, 1);
    await until('the list', () => Atomics.load(words, finished) === 1);
    return {
      results: operations.map((_, i) => memory.result(i)),
      taken: CPUS.map((_, cpu) => memory.taken(cpu)),
      registers: CPUS.map((apicId) => ({ ...machine.lapic(apicId), counters: 0, timer: 0, pending: 0 })),
    };
  };
  const outcome = await Promise.race([dialogue(), ended]);
  words[count] = END;
  Atomics.store(words, sequence, 2);
  await end;
  return outcome;
}

const why = whyNoKvm();

describe.skipIf(why !== undefined)(`layer 2 on whole machines${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  it('random lists come out the same with our APICs and with KVM’s', async () => {
    const first = freshSeed();
    say(`layer 2 on whole machines: seed ${first}`);
    for (let seed = first; seed < first + LISTS; seed++) {
      const operations = makeList(seed, 2_000_000);
      const list = operations.map((each, i) => `${i + 1}. ${describeOperation(each)}`).join('\n');
      const kernel = await carryOut('kernel', operations);
      const user = await carryOut('user', operations);
      expect(user.results, list).toEqual(kernel.results);
      expect(user.taken, list).toEqual(kernel.taken);
      expect(user.registers, list).toEqual(kernel.registers);
    }
  }, 300_000);
});
