/** The public face: what may be called when, and what each misuse answers. */
import { Machine } from 'apiary';
import { afterEach, describe, expect, test } from 'vitest';
import {
  assemble,
  describeKvm,
  EXIT_OK,
  GUEST_OK,
  guestImage,
  REAL_MODE,
  SLOW_HOST_MS,
  startCpu,
  until,
  X2APIC_MODE,
} from './support.ts';

const HALT = 'cli\n1: hlt\n jmp 1b\n';
let machine: Machine | undefined;

async function make(options: Parameters<typeof Machine.create>[0] = {}): Promise<Machine> {
  machine = await Machine.create({ timeoutMs: SLOW_HOST_MS, keepHalted: true, ...options });
  return machine;
}

async function running(source: string, options: Parameters<typeof Machine.create>[0] = {}): Promise<Machine> {
  const made = await make(options);
  await made.load(assemble(source), REAL_MODE);
  void made.run();
  return made;
}

afterEach(async () => {
  await machine?.stop();
  machine = undefined;
});

describeKvm('Machine', () => {
  describe('create, load and run', () => {
    test('run() without an image is refused', async () => {
      const made = await make();
      await expect(made.run()).rejects.toThrow(/nothing to run: load an image first/);
    });

    test('load() of a missing image names the file and the reason', async () => {
      const made = await make();
      await expect(made.load('/no/such/image')).rejects.toThrow('cannot read image /no/such/image: no such file');
    });

    test('load() while the guest runs is refused, and the guest runs on', async () => {
      const made = await running(HALT);
      await expect(made.load(guestImage('hello'))).rejects.toThrow(/runs already/);
      await made.stop(7);
      await expect(made.run()).resolves.toEqual({ reason: 'stopped', status: 7 });
    });

    test('run() twice is one run', async () => {
      const made = await make();
      await made.load(guestImage('hello'));
      const [first, second] = await Promise.all([made.run(), made.run()]);
      expect(second).toBe(first);
      expect(first).toEqual({ reason: 'debug-exit', status: GUEST_OK });
    });

    test('the serial event comes before the exit event, and exit once', async () => {
      const made = await make();
      const seen: string[] = [];
      made.on('serial', (chunk) => seen.push(`serial ${chunk}`));
      made.on('exit', ({ reason, status }) => seen.push(`exit ${reason} ${status}`));
      await made.load(guestImage('hello'));
      await made.run();
      await made.stop();
      expect(seen.at(-1)).toBe(`exit debug-exit ${GUEST_OK}`);
      const serial = seen.slice(0, -1).map((each) => each.replace(/^serial /, ''));
      expect(serial.join('')).toBe('hello from apiary\n');
    });

    test('a line without an end is not lost when the guest ends', async () => {
      const made = await make();
      let text = '';
      made.on('serial', (chunk) => {
        text += chunk;
      });
      await made.load(assemble(`mov $0x3f8, %dx\n mov $'x', %al\n out %al, %dx\n ${EXIT_OK}`), REAL_MODE);
      await made.run();
      expect(text).toBe('x');
    });

    test('a timeout ends the run with status 124', async () => {
      const made = await running(HALT, { timeoutMs: 50 });
      await expect(made.run()).resolves.toEqual({
        reason: 'timeout',
        status: 124,
        detail: expect.stringMatching(/^CPU 0x0: /),
      });
    });

    test('a triple fault ends the run with status 10, and says where', async () => {
      // Protected mode with an empty interrupt table, then an exception.
      const made = await running('lidtl 1f\n mov %cr0, %eax\n inc %ax\n mov %eax, %cr0\n ud2\n1: .word 0\n .long 0\n');
      const { reason, status, detail } = await made.run();
      expect([reason, status]).toEqual(['triple-fault', 10]);
      expect(detail).toMatch(/^vCPU with APIC ID 0x0: triple fault at rip 0x/);
      expect(detail).toContain('cr0=');
    });

    test('after the end everything is refused with one message', async () => {
      const made = await running(EXIT_OK);
      await made.run();
      for (const call of [
        () => made.hotplug(5),
        () => made.unplug(0),
        () => made.sendSerial('x'),
        () => made.load(guestImage('hello')),
      ]) {
        await expect(call()).rejects.toMatchObject({
          name: 'ConfigError',
          message: expect.stringMatching(/has ended/),
        });
      }
    });

    test('stop() before run() gives everything back, and run() is refused', async () => {
      const made = await make();
      await made.load(guestImage('hello'));
      await made.stop();
      await expect(made.run()).rejects.toThrow(/the machine has ended/);
    });
  });

  describe('hotplug and unplug', () => {
    test('before run(): the guest finds the CPU when it starts', async () => {
      const made = await make({ cpus: [0, 0x23], hotpluggable: [0x123] });
      await made.hotplug(0x123);
      expect(made.cpus).toEqual([0, 0x23, 0x123]);
    });

    test('a CPU that was not announced can be added all the same', async () => {
      const made = await running(HALT, { cpus: 1 });
      await made.hotplug(0x77);
      expect(made.cpus).toEqual([0, 0x77]);
    });

    test('an ID that is there, or is being added, is refused', async () => {
      const made = await running(HALT, { cpus: [0, 0x23] });
      await expect(made.hotplug(0x23)).rejects.toThrow('APIC ID 0x23 is there already; unplug it first');
      const first = made.hotplug(0x24);
      await expect(made.hotplug(0x24)).rejects.toThrow(/0x24 is there already/);
      await first;
      await expect(made.hotplug(0x24)).rejects.toThrow(/0x24 is there already/);
    });

    test.each([-1, 1.5, Number.NaN, 0x10_0000])('APIC ID %s is refused', async (apicId) => {
      const made = await make();
      await expect(made.hotplug(apicId)).rejects.toMatchObject({ name: 'ConfigError' });
      expect(made.cpus).toEqual([0]);
    });

    test('unplug() of an absent CPU and of the boot CPU is refused', async () => {
      const made = await running(HALT, { cpus: [4, 5] });
      await expect(made.unplug(6)).rejects.toThrow('APIC ID 0x6 is not there; nothing to unplug');
      await expect(made.unplug(4)).rejects.toThrow('APIC ID 0x4 is the boot CPU; it cannot be unplugged');
      await made.unplug(5); // asked; this guest never answers
      expect(made.cpus).toEqual([4, 5]);
    });

    test('cpus are named in the order of their vCPU indexes', async () => {
      const made = await make({ cpus: [3], hotpluggable: [8, 9] });
      await made.hotplug(9);
      await made.hotplug(8);
      expect(made.cpus).toEqual([3, 9, 8]);
      expect([0, 1, 2, 3].map((index) => made.apicIdOf(index))).toEqual([3, 9, 8, undefined]);
    });

    test('64 CPUs at once', async () => {
      const made = await running(HALT, { threads: 2 });
      const ids = Array.from({ length: 64 }, (_, index) => index + 0x100);
      await Promise.all(ids.map((apicId) => made.hotplug(apicId)));
      expect(made.cpus).toEqual([0, ...ids]);
    });
  });

  describe('snapshots', () => {
    const waitForIt = `${X2APIC_MODE} mov $0x808, %ecx\n mov $0x40, %eax\n xor %edx, %edx\n wrmsr\n ${HALT}`;

    test.each(['user', 'kernel'] as const)('lapic() of a halted CPU, apic %s', async (apic) => {
      const made = await running(waitForIt, { apic, cpus: [0x123], x2apicApi: { use32bitIds: true } });
      await until(() => made.lapic(0x123).registers.TPR === 0x40);
      expect(made.lapic(0x123)).toMatchObject({
        vcpuIndex: 0,
        apicId: 0x123,
        effectiveId: 0x123,
        mode: 'x2apic',
        softwareEnabled: true,
        apicBase: '0xfee00d00',
        registers: { SPIV: 0x1ff, TPR: 0x40 },
        requested: [],
        inService: [],
      });
    });

    test('lapic() under apic kernel with the gate off reads the 8-bit ID that KVM_GET_LAPIC has', async () => {
      const made = await running(waitForIt, { apic: 'kernel', cpus: [0x23] });
      await until(() => made.lapic(0x23).registers.TPR === 0x40);
      expect(made.lapic(0x23)).toMatchObject({ apicId: 0x23, effectiveId: 0x23, mode: 'x2apic' });
    });

    test('lapic() of an ID that is not there is refused', async () => {
      const made = await make({ hotpluggable: [7] });
      expect(() => made.lapic(1)).toThrow('there is no CPU with APIC ID 0x1');
      expect(() => made.lapic(7)).toThrow('there is no CPU with APIC ID 0x7');
    });

    test('after the end, lapic() shows our APIC as it was, and refuses for the one that went with the VM', async () => {
      const ours = await running(EXIT_OK);
      await ours.run();
      expect(ours.lapic(0).mode).toBe('xapic');
      const kernels = await running(EXIT_OK, { apic: 'kernel' });
      await kernels.run();
      expect(() => kernels.lapic(0)).toThrow(/the machine has ended/);
    });

    test('apicMap() follows the gate, and is refused for the in-kernel APIC', async () => {
      const off = await make({ cpus: [0, 0x23, 0x123] });
      expect(off.apicMap()).toMatchObject({ state: 'disabled', reason: expect.stringMatching(/another/) });
      await off.stop();
      const on = await make({ cpus: [0, 0x23, 0x123], x2apicApi: { use32bitIds: true } });
      expect([...on.apicMap().physical]).toEqual([
        [0, 0],
        [0x23, 1],
        [0x123, 2],
      ]);
      await on.stop();
      const kernels = await make({ apic: 'kernel' });
      expect(() => kernels.apicMap()).toThrow(/use apic: 'user'/);
    });

    test.each(['user', 'kernel'] as const)('1,000 snapshots while the guest runs hard, apic %s', async (apic) => {
      const made = await make({ apic, cpus: 4 });
      await made.load(guestImage('storm'));
      const run = made.run();
      for (let round = 0; round < 250 && !made.ended; round++) {
        for (const apicId of made.cpus) expect(made.lapic(apicId).apicId).toBe(apicId);
        if (apic === 'user') expect(made.apicMap().serial).toBeGreaterThan(0);
        await new Promise(setImmediate);
      }
      await expect(run).resolves.toEqual({ reason: 'debug-exit', status: GUEST_OK });
    });
  });

  describe('sendSerial', () => {
    /** Echoes COM1 until it reads `q`. */
    const echo = `
        mov $0x3fd, %dx
    1:  in %dx, %al
        test $1, %al
        jz 1b
        mov $0x3f8, %dx
        in %dx, %al
        out %al, %dx
        cmp $'q', %al
        je 2f
        mov $0x3fd, %dx
        jmp 1b
    2:  ${EXIT_OK}`;

    test('20,000 bytes arrive in order, whatever the queue holds', async () => {
      const made = await running(echo);
      let text = '';
      made.on('serial', (chunk) => {
        text += chunk.toString('latin1');
      });
      const input = Array.from({ length: 2000 }, (_, index) => `${index}`.padStart(9, '0')).join('\n');
      await made.sendSerial(input);
      await made.sendSerial('\nq');
      await made.run();
      expect(text).toBe(`${input}\nq`);
    });

    test('input that nobody reads waits, and fails when the machine ends', async () => {
      const made = await running(HALT);
      const sent = made.sendSerial(new Uint8Array(10_000));
      const refused = expect(sent).rejects.toThrow(/the machine has ended/);
      await made.stop();
      await refused;
    });
  });

  test('firstRun names each CPU that enters the guest, once', async () => {
    const made = await make({ cpus: 2 });
    const seen: number[] = [];
    made.on('firstRun', (apicId) => seen.push(apicId));
    const source = `${X2APIC_MODE}${startCpu(1)} 1: jmp 1b\n .org 0x1000\n ${EXIT_OK}`;
    await made.load(assemble(source), REAL_MODE);
    await made.run();
    // Each worker reports its own, so the order in which main hears of them is open.
    expect(seen.toSorted((a, b) => a - b)).toEqual([0, 1]);
  });
});
