/**
 * vCPUs share threads: time slices, wake-ups across threads, idle without cost, and events at awkward moments. Guests are a
 * few lines of real mode; the local APIC is in x2APIC mode there, since MSRs are within reach.
 */
import { Machine } from 'apiary';
import { describe, expect, test } from 'vitest';
import {
  assemble,
  describeKvm,
  EXIT_OK,
  GUEST_OK,
  guestImage,
  REAL_MODE,
  runGuest,
  SLOW_HOST_MS,
  sendIpi,
  startCpu,
  until,
  X2APIC_MODE,
} from './support.ts';

const VECTOR = 0x40;
const FIXED = 0x4000 | VECTOR;
const NMI = 0x4400;
const EOI = 'mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n';
/** Points an entry of the interrupt table at 0 to a label. */
const handler = (vector: number, label: string): string =>
  `movw $${label}, ${vector * 4}\n movw $0, ${vector * 4 + 2}\n`;
/** Where the second CPU starts. */
const SECOND_CPU = '.org 0x1000\n';
/** Counters beside the code: dwords at 0x3000. */
const COUNT = 0x3000;

const onThreads = [1, 2] as const;

describeKvm('the scheduler', () => {
  describe.each(onThreads)('threads %i', (threads) => {
    test('two CPUs that only spin both get on', async () => {
      const source = `
        ${X2APIC_MODE} ${startCpu(1)}
      1: cmpl $1000, ${COUNT}
        jb 1b
        ${EXIT_OK}
        ${SECOND_CPU}
      1: incl ${COUNT}
        jmp 1b`;
      const { result } = await runGuest(assemble(source), { cpus: 2, threads });
      expect(result).toEqual({ reason: 'debug-exit', status: GUEST_OK });
    });

    test('a halted CPU that is woken 300 times runs beside one that never halts', async () => {
      // The second CPU wakes the first and spins until it was heard; the first counts, and halts.
      const source = `
        ${handler(VECTOR, 'heard')}
        ${X2APIC_MODE} ${startCpu(1)}
      1: cli
        cmpl $300, ${COUNT}
        jae 2f
        sti
        hlt
        jmp 1b
      2: ${EXIT_OK}
      heard: incl ${COUNT}
        ${EOI}
        iret
        ${SECOND_CPU}
        ${X2APIC_MODE}
      1: mov ${COUNT}, %ebx
        ${sendIpi(FIXED, 0)}
      2: cmp ${COUNT}, %ebx
        je 2b
        jmp 1b`;
      const { result } = await runGuest(assemble(source), { cpus: 2, threads });
      expect(result).toEqual({ reason: 'debug-exit', status: GUEST_OK });
    });

    test('an NMI ends a HLT with interrupts off', async () => {
      const source = `
        ${handler(2, 'nmi')}
        ${X2APIC_MODE} ${startCpu(1)}
      1: cmpl $1, ${COUNT}
        jne 1b
        mov $20000, %ebx
      2: dec %ebx
        jnz 2b
        ${sendIpi(NMI, 1)}
      3: cmpl $2, ${COUNT}
        jne 3b
        ${EXIT_OK}
      nmi: movl $2, ${COUNT}
        iret
        ${SECOND_CPU}
        movl $1, ${COUNT}
      1: cli
        hlt
        jmp 1b`;
      const { result } = await runGuest(assemble(source), { cpus: 2, threads });
      expect(result).toEqual({ reason: 'debug-exit', status: GUEST_OK });
    });

    test.each([
      ['a port read', 'mov $0x3fd, %dx\n 2: in %dx, %al\n jmp 2b'],
      ['a string read', 'mov $0x3fd, %dx\n 2: mov $0x4000, %di\n mov $64, %cx\n cld\n rep insb\n jmp 2b'],
      ['a string write', 'mov $0x80, %dx\n 2: mov $0x4000, %si\n mov $64, %cx\n cld\n rep outsb\n jmp 2b'],
      ['an MSR write', `${X2APIC_MODE} mov $0x808, %ecx\n 2: wrmsr\n jmp 2b`],
      ['a HLT', 'cli\n 2: hlt\n jmp 2b'],
    ])('100 restarts by INIT and SIPI in the middle of %s: each starts from clean registers', async (_name, loop) => {
      const source = `
        ${X2APIC_MODE}
        xor %ebx, %ebx
      1: inc %ebx
        ${startCpu(1)}
      2: cmp ${COUNT}, %ebx
        jne 2b
        mov $300, %ecx
      3: dec %ecx
        jnz 3b
        cmp $100, %ebx
        jb 1b
        cmpl $0, ${COUNT + 4}
        jne 4f
        ${EXIT_OK}
      4: mov $0x7f, %al
        out %al, $0xf4
        ${SECOND_CPU}
        or %eax, %ebx               # all but EDX are 0 after INIT (SDM vol. 3A, table 10-1)
        or %ecx, %ebx
        or %esi, %ebx
        or %edi, %ebx
        or %ebx, ${COUNT + 4}
        incl ${COUNT}
        mov $-1, %ebx
        mov $-1, %edi
        ${loop}`;
      const { result } = await runGuest(assemble(source), { cpus: 2, threads });
      expect(result).toEqual({ reason: 'debug-exit', status: GUEST_OK });
    });

    test('200 periods of a timer arrive in a guest that exits all the time', async () => {
      // A kick that met an exit on its way out was once forgotten, and with it the timer.
      const source = `
        ${handler(VECTOR, 'tick')}
        ${X2APIC_MODE}
        mov $0x83e, %ecx            # divide by 1
        mov $0xb, %eax
        xor %edx, %edx
        wrmsr
        mov $0x832, %ecx            # periodic
        mov $${0x2_0000 | VECTOR}, %eax
        wrmsr
        mov $0x838, %ecx            # 2 ms on KVM's 1 GHz bus: an emulated host takes 0.3 ms for an exit
        mov $2000000, %eax
        wrmsr
        sti
      1: in $0x80, %al
        cmpl $200, ${COUNT}
        jb 1b
        ${EXIT_OK}
      tick: incl ${COUNT}
        push %eax
        push %ecx
        push %edx
        ${EOI}
        pop %edx
        pop %ecx
        pop %eax
        iret`;
      const { result } = await runGuest(assemble(source), { threads });
      expect(result).toEqual({ reason: 'debug-exit', status: GUEST_OK });
    });
  });

  test.each([
    ['user', { apic: 'user', cpus: 8, threads: 2 }],
    ['user, one thread', { apic: 'user', cpus: 8, threads: 1 }],
    ['kernel', { apic: 'kernel', cpus: 4 }],
  ] as const)('a halted guest costs nothing, apic %s', async (_name, options) => {
    const machine = await Machine.create(options);
    await machine.load(assemble('sti\n 1: hlt\n jmp 1b'), REAL_MODE);
    void machine.run();
    await new Promise((resolve) => setTimeout(resolve, 300));
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const { user, system } = process.cpuUsage(before);
    await machine.stop();
    expect((user + system) / 1000).toBeLessThan(250); // milliseconds of a second; a thread that spins takes all of it
  });

  test('hotplug and unplug of CPUs while others run hard', async () => {
    const machine = await Machine.create({ cpus: 4, threads: 2, timeoutMs: SLOW_HOST_MS });
    await machine.load(guestImage('storm'));
    const run = machine.run();
    for (let apicId = 0x100; apicId < 0x120; apicId++) await machine.hotplug(apicId);
    for (let apicId = 0x100; apicId < 0x120 && !machine.ended; apicId++) await machine.unplug(apicId).catch(() => {});
    await expect(run).resolves.toEqual({ reason: 'debug-exit', status: GUEST_OK });
  });
});

describeKvm('ending at awkward moments', () => {
  /** The second CPU asks worker 0's devices all the time; the first does what `first` says. */
  const busyMailbox = (first: string): string => `
      ${X2APIC_MODE} ${startCpu(1)}
    1: cmpl $100, ${COUNT}
      jb 1b
      ${first}
      ${SECOND_CPU}
    1: in $0x80, %al
      incl ${COUNT}
      jmp 1b`;

  test('worker 0 ends while another waits for its answer, 10 times', async () => {
    const image = assemble(busyMailbox(EXIT_OK));
    for (let round = 0; round < 10; round++) {
      const { result } = await runGuest(image, { cpus: 2, threads: 2, memory: '2M' });
      expect(result).toEqual({ reason: 'debug-exit', status: GUEST_OK });
    }
  });

  test('stop() while a worker waits for an answer takes no second, 5 times', async () => {
    const image = assemble(busyMailbox('2: in $0x80, %al\n jmp 2b'));
    for (let round = 0; round < 5; round++) {
      const machine = await Machine.create({ cpus: 2, threads: 2, memory: '2M' });
      await machine.load(image, REAL_MODE);
      void machine.run();
      await until(() => new DataView(machine.memory.buffer, machine.memory.byteOffset).getUint32(COUNT, true) > 100);
      const start = performance.now();
      await machine.stop();
      expect(performance.now() - start).toBeLessThan(1000);
    }
  });
});
