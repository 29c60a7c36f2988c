/**
 * Worker 0 from one thread to another between two turns: nothing that was sent to its vCPUs, typed or timed is lost, and nothing
 * is done twice. Both ends are on this thread, the vCPU is one script for both: no KVM.
 */
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { afterEach, expect, test } from 'vitest';
import { ApicSystem } from '../../../src/apic/index.ts';
import { ExitReason } from '../../../src/kvm/constants.ts';
import { native } from '../../../src/kvm/native.ts';
import { captureResetState } from '../../../src/machine/loop/cpu-state.ts';
import { ScriptedHost } from '../../../src/machine/loop/scripted-host.ts';
import { type ScriptedExit, type ScriptedStep, ScriptedVcpu } from '../../../src/machine/loop/scripted-vcpu.ts';
import { MachineWorker, type Sleep } from '../../../src/machine/machine-worker.ts';
import { checkOptions } from '../../../src/machine/options.ts';
import { GuestMemory } from '../../../src/machine/shared/guest-memory.ts';
import type { FromWorker, MachineHandles, ToWorker } from '../../../src/machine/shared/messages.ts';
import { nativeHost } from '../../../src/machine/shared/native-host.ts';
import { messageTaken } from '../../../src/machine/shared/outbox.ts';
import { Attention, SharedState } from '../../../src/machine/shared/shared.ts';
import { signalWorker, wakeVcpu } from '../../../src/machine/shared/signals.ts';

const COM1 = 0x3f8;
const TURN_NANOS = 1e9;
const NMI = 4;
const HLT: ScriptedExit = { exitReason: ExitReason.HLT, ifFlag: true };
const NOTHING: ScriptedExit = { exitReason: ExitReason.INTR, ifFlag: true };

const out = (ioPort: number, value: number): ScriptedExit => ({
  exitReason: ExitReason.IO,
  ioIsOut: true,
  ioPort,
  ioData: [value],
});
const wrmsr = (msrIndex: number, msrDataLow: number): ScriptedExit => ({
  exitReason: ExitReason.X86_WRMSR,
  msrIndex,
  msrDataLow,
  ifFlag: true,
});
const X2APIC = [wrmsr(0x1b, 0xfee0_0d00), wrmsr(0x80f, 0x1ff)];

/** Reads what was typed, for ever. */
function* reading(into: number[]): Generator<ScriptedStep> {
  for (;;) {
    const status = { exitReason: ExitReason.IO, ioIsOut: false, ioPort: COM1 + 5, ioData: [0] };
    yield status;
    if ((status.ioData[0] & 1) === 0) {
      yield HLT;
      continue;
    }
    const data = { exitReason: ExitReason.IO, ioIsOut: false, ioPort: COM1, ioData: [0] };
    yield data;
    into.push(data.ioData[0]);
  }
}

/** A machine of one vCPU as main has it. */
class World {
  readonly said: FromWorker[] = [];
  readonly guest: ScriptedVcpu;
  readonly shared: SharedState;
  /** The APICs as another worker has them. */
  readonly elsewhere: ApicSystem;
  worker: MachineWorker;
  readonly #channel = new MessageChannel();
  readonly #handles: MachineHandles;

  constructor(steps: Iterable<ScriptedStep>) {
    const config = checkOptions({ memory: 2 ** 21 }, { maxVcpus: 4, maxVcpuId: 256, cores: 1 });
    const system = new ApicSystem({ maxApics: 4, maxApicId: 255 }, { nowNanos: native.nowNanos });
    this.shared = new SharedState(4, nativeHost);
    this.elsewhere = ApicSystem.attach(system.memory, {
      nowNanos: native.nowNanos,
      wake: (vcpuIndex) => wakeVcpu(this.shared, vcpuIndex, 1),
    });
    this.#handles = {
      config,
      vmFd: -1,
      runSize: 4096,
      extendedDestinations: false,
      memory: new GuestMemory(config.memoryBytes).bytes,
      apicMemory: system.memory as SharedArrayBuffer,
      shared: this.shared.buffer,
      maxVcpus: 4,
      maxBacklog: 32,
    };
    this.guest = new ScriptedVcpu(new ScriptedHost(), steps);
    this.guest.run.unmap = () => {}; // KVM's page outlives a mapping of it
    system.addApic(0, { bootstrap: true });
    this.shared.setHome(0, 0);
    this.worker = this.#make();
    const handle = { vcpuIndex: 0, apicId: 0, fd: -1, bootstrap: true };
    this.post({ type: 'slots', slots: [{ apicId: 0, enabled: true }] });
    this.post({ type: 'cpus', cpus: [handle], reset: captureResetState(this.guest.vcpu, []), reply: 1 });
    this.post({ type: 'start', boot: null });
  }

  /** @param meanwhile what others do after it has left and before it has come */
  move(meanwhile: () => void = () => {}): void {
    const handover = structuredClone(this.worker.handOver());
    meanwhile();
    this.worker = this.#make(handover);
  }

  #make(handover?: ReturnType<MachineWorker['handOver']>): MachineWorker {
    const part = { worker: 0, port: this.#channel.port2, handles: this.#handles };
    return new MachineWorker(
      { ...part, ...(handover && { handover }) },
      { openVcpu: () => ({ vcpu: this.guest.vcpu, run: this.guest.run }), inTurns: true },
    );
  }

  post(message: ToWorker): void {
    this.#channel.port1.postMessage(message);
    signalWorker(this.shared, 0, Attention.control);
  }

  /** Until it sleeps. */
  turn(): Sleep | undefined {
    const sleep = this.worker.turn(native.nowNanos() + TURN_NANOS);
    for (let item = receiveMessageOnPort(this.#channel.port1); item; item = receiveMessageOnPort(this.#channel.port1)) {
      this.said.push(item.message as FromWorker);
      messageTaken(this.shared, 0);
    }
    return sleep;
  }

  send(vector: number): void {
    this.elsewhere.deliver({ destination: 0, vector });
  }

  close(): void {
    this.worker.close();
    this.#channel.port1.close();
  }
}

let world: World;
afterEach(() => world.close());

test.each(['before', 'while'])('an interrupt that another worker sends %s it moves ends the HLT there', (when) => {
  world = new World([...X2APIC, HLT, NOTHING, HLT]);
  expect(world.turn()).toMatchObject({ value: 0, millis: Number.POSITIVE_INFINITY });
  if (when === 'before') world.send(0x41);
  world.move(() => {
    if (when === 'while') world.send(0x41);
  });
  expect(world.guest.taken).toEqual([]);
  world.turn();
  expect(world.guest.taken).toEqual(['0x41']);
});

test('TPR and what it holds back stay; a vector in service too', () => {
  const end = wrmsr(0x80b, 0);
  world = new World([...X2APIC, wrmsr(0x808, 0x50), wrmsr(0x83f, 0x41), HLT, NOTHING, wrmsr(0x808, 0), end, HLT]);
  world.turn();
  world.send(0x61);
  world.move();
  expect(world.elsewhere.apic(0).cr8).toBe(5);
  world.turn();
  expect(world.guest.taken).toEqual(['0x61', '0x41']);
});

test('a TPR that its last exit before the move wrote stays, too', () => {
  const until = native.nowNanos() + 20e6;
  world = new World(
    (function* () {
      yield* X2APIC;
      while (native.nowNanos() < until);
      yield wrmsr(0x808, 0x50); // the turn is over when it is handled
      yield HLT;
    })(),
  );
  world.worker.turn(until);
  expect(world.elsewhere.apic(0).cr8).toBe(5);
  world.move();
  world.turn();
  expect(world.elsewhere.apic(0).cr8).toBe(5);
});

test('a CPU that has not run is not run to move it', () => {
  world = new World([HLT]);
  world.post({ type: 'hold', reply: 2 });
  world.turn();
  world.move();
  expect(world.guest.runs).toBe(0);
});

test('the APIC timer rings on the other thread', () => {
  const soon = [wrmsr(0x832, 0x31), wrmsr(0x83e, 0xb), wrmsr(0x838, 5_000_000)];
  world = new World([...X2APIC, ...soon, HLT, NOTHING, HLT]);
  world.turn();
  world.move();
  expect(world.worker.shared.runState(0)).toBeGreaterThan(0);
  for (let turns = 0; turns < 1e5 && world.guest.taken.length === 0; turns++) world.turn();
  expect(world.guest.taken).toEqual(['0x31']);
});

test('what was typed is read in order, to the end, and each request is answered once', () => {
  const read: number[] = [];
  world = new World(
    (function* () {
      yield HLT;
      yield* reading(read);
    })(),
  );
  const replies = (): number[] => world.said.flatMap((each) => (each.type === 'reply' ? [each.reply] : []));
  const typed = [5000, 10, 3000].map((length, index) => new Uint8Array(length).fill(index + 1));
  for (const [index, bytes] of typed.entries()) world.post({ type: 'serial-input', bytes, reply: 10 + index });
  world.turn();
  expect(replies()).toEqual([1]); // the port's queue has room for 4096
  world.move();
  world.elsewhere.deliver({ destination: 0, vector: 0, deliveryMode: NMI });
  world.turn();
  expect(Buffer.from(read).equals(Buffer.concat(typed))).toBe(true);
  expect(replies()).toEqual([1, 10, 11, 12]);
});

test('what it was, it is: started once, run before, with its output out and its counts', () => {
  world = new World([out(COM1, 0x78), out(0x999, 1), HLT]);
  world.turn();
  world.move();
  world.post({ type: 'inspect', reply: 2 });
  world.turn();
  const types = world.said.map(({ type }) => type);
  expect(types.filter((type) => type === 'first-run')).toHaveLength(1);
  expect(types.filter((type) => type === 'serial')).toHaveLength(1);
  const told = world.said.find((each) => each.type === 'reply' && each.reply === 2);
  expect(told).toMatchObject({ value: { board: { unclaimed: 1 }, vcpus: [{ state: 'halted' }] } });
});

test('a machine that is held stays so, and the message that starts it again waits in the port', () => {
  world = new World([NOTHING, HLT]);
  world.turn();
  world.post({ type: 'hold', reply: 2 });
  world.turn();
  wakeVcpu(world.shared, 0, 1);
  const { runs } = world.guest;
  world.move();
  const completed = world.guest.runs;
  expect(completed - runs).toBe(1); // KVM_RUN that only completes the exit
  world.turn();
  expect(world.guest.runs).toBe(completed);
});

test('an instruction that exits in several pieces is finished before it moves', () => {
  world = new World([{ ...out(COM1, 0x79), pieces: 2 }, HLT]);
  world.turn();
  world.move();
  world.turn();
  const text = world.said.flatMap((each) => (each.type === 'serial' ? [...each.bytes] : []));
  expect(text).toEqual([0x79, 0x79, 0x79]);
});

test('a stop that comes while it moves ends it there', () => {
  world = new World([HLT]);
  world.turn();
  world.move(() => signalWorker(world.shared, 0, Attention.stop));
  world.turn();
  expect(world.worker.isOver).toBe(true);
});
