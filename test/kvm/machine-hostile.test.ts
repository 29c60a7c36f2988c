/** Guests that mean harm, or are merely broken: the monitor neither grows nor hangs, and ends when it is told to. */
import { Machine } from 'apiary';
import { expect, test } from 'vitest';
import {
  assemble,
  describeKvm,
  EXIT_OK,
  GUEST_OK,
  REAL_MODE,
  runGuest,
  sendIpi,
  startCpu,
  X2APIC_MODE,
} from './support.ts';

const MIB = 2 ** 20;

/** Runs `source` for `millis` and tells by how many MiB this process grew; `slowly` keeps main busy with each chunk. */
async function growth(source: string, millis: number, slowly = false): Promise<number> {
  const machine = await Machine.create({ cpus: 2, threads: 2, memory: '2M', trace: source.includes('wrmsr') });
  machine.on('serial', () => {
    const until = performance.now() + (slowly ? 2 : 0);
    while (performance.now() < until);
  });
  await machine.load(assemble(source), REAL_MODE);
  void machine.run();
  await new Promise((resolve) => setTimeout(resolve, 200));
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  await new Promise((resolve) => setTimeout(resolve, millis));
  globalThis.gc?.();
  const after = process.memoryUsage().rss;
  const start = performance.now();
  await machine.stop();
  expect(performance.now() - start).toBeLessThan(1500);
  return (after - before) / MIB;
}

const FLOOD_MS = 1500;
/** ICR: delivery mode SMI, assert. */
const SMI = 0x4200;

describeKvm('hostile guests', () => {
  test.each([
    ['newlines to the serial port', "mov $0x3f8, %dx\n mov $'\\n', %al\n 1: out %al, %dx\n jmp 1b", true],
    ['text without newlines', "mov $0x3f8, %dx\n mov $'x', %al\n 1: out %al, %dx\n jmp 1b", true],
    [
      'strings of newlines',
      'mov $0x3f8, %dx\n mov $0x0a0a, %ax\n mov $0x4000, %di\n mov $0x800, %cx\n rep stosw\n 1: mov $0x4000, %si\n mov $0x1000, %cx\n rep outsb\n jmp 1b',
      true,
    ],
    [
      'reports of hotplug events (_OST)',
      'mov $0xcd8, %dx\n xor %eax, %eax\n out %eax, %dx\n mov $2, %al\n mov $0xcdd, %dx\n out %al, %dx\n mov $0xce0, %dx\n 1: out %eax, %dx\n jmp 1b',
      false,
    ],
    ['traced IPIs', `${X2APIC_MODE} 1: ${sendIpi(0x4040, 1)} jmp 1b`, false],
  ])('%s without end: main does not grow, and stop() works', async (_name, source, slowly) => {
    expect(await growth(source, FLOOD_MS, slowly)).toBeLessThan(60);
  });

  test('rep outsb of 40,960 bytes: every one arrives', async () => {
    const source = `
        mov $0x5000, %di
        mov $'y', %al
        mov $0xa000, %cx
        cld
        rep stosb
        mov $0x5000, %si
        mov $0xa000, %cx
        mov $0x3f8, %dx
        rep outsb
        ${EXIT_OK}`;
    const { result, text } = await runGuest(assemble(source));
    expect(result.status).toBe(GUEST_OK);
    expect(text).toBe('y'.repeat(0xa000));
  });

  test('string I/O to and from ports that nobody has', async () => {
    const source = `
        mov $0x5000, %di
        mov $0x2000, %cx
        mov $0x1234, %dx
        cld
        rep insb
        cmpb $0xff, 0x5000
        jne 1f
        cmpb $0xff, 0x6fff
        jne 1f
        mov $0x5000, %si
        mov $0x800, %cx
        rep outsl
        ${EXIT_OK}
      1: mov $0x7f, %al
        out %al, $0xf4`;
    expect((await runGuest(assemble(source))).result.status).toBe(GUEST_OK);
  });

  test('30,000 NMIs to a CPU that is not started, then to one that is', async () => {
    const source = `
        ${X2APIC_MODE}
        mov $15000, %ebx
      1: ${sendIpi(0x4400, 1)}
        dec %ebx
        jnz 1b
        ${startCpu(1)}
      2: cmpl $1, 0x3000
        jne 2b
        mov $15000, %ebx
      3: ${sendIpi(0x4400, 1)}
        dec %ebx
        jnz 3b
        ${EXIT_OK}
        .org 0x1000
        movw $0x2080, 8
        movw $0, 10
        movl $1, 0x3000
      1: hlt
        jmp 1b
        .org 0x1080
        iret`;
    expect((await runGuest(assemble(source), { cpus: 2, threads: 2 })).result.status).toBe(GUEST_OK);
  });

  test('a timer with the shortest period does not starve the guest or the monitor', async () => {
    const source = `
        movw $tick, 0x100
        movw $0, 0x102
        ${X2APIC_MODE}
        mov $0x83e, %ecx
        mov $0xb, %eax
        xor %edx, %edx
        wrmsr
        mov $0x832, %ecx
        mov $0x20040, %eax
        wrmsr
        mov $0x838, %ecx
        mov $1, %eax
        wrmsr
        sti
        mov $200000, %ebx
      1: dec %ebx
        jnz 1b
        ${EXIT_OK}
      tick: push %eax
        push %ecx
        push %edx
        mov $0x80b, %ecx
        xor %eax, %eax
        xor %edx, %edx
        wrmsr
        pop %edx
        pop %ecx
        pop %eax
        iret`;
    // Of the default, 200 us, an emulated host needs more for the interrupt alone.
    const { result } = await runGuest(assemble(source), { apicOptions: { minTimerPeriodMicros: 2000 } });
    expect(result.status).toBe(GUEST_OK);
  });

  test('an instruction that KVM does not know ends the run with status 3, the bytes and what to try', async () => {
    // An x87 store to an address without memory: KVM's emulator has no such instruction.
    const source = `
        lgdtl gdt
        mov %cr0, %eax
        inc %ax
        mov %eax, %cr0
        mov $8, %ax
        mov %ax, %ds
        mov $0xfed00000, %ebx
        fbstp (%ebx)
        fnsave (%ebx)
        ${EXIT_OK}
        .align 8
      gdt: .word 15
        .long table
        .word 0
      table: .quad 0
        .quad 0x00cf93000000ffff`;
    const { result } = await runGuest(assemble(source));
    expect(result).toMatchObject({ reason: 'internal-error', status: 10 });
    expect(result.detail).toMatch(/^vCPU with APIC ID 0x0: KVM cannot go on at rip 0x/);
    expect(result.detail).toContain('KVM_EXIT_INTERNAL_ERROR');
  });

  // KVM saves the CPU's state in SMM's address space. Without memory there it declared the VM dead: EIO, and no word why.
  test.each(['user', 'kernel'] as const)(
    'an SMI to itself leaves the guest running, on the APICs of %s',
    async (apic) => {
      const source = `
        mov $0x3800, %ax
        mov %ax, %ds
        movw $0xaa0f, 0             # RSM, where SMM begins
        xor %ax, %ax
        mov %ax, %ds
        ${X2APIC_MODE}
        ${sendIpi(SMI, 0)}
        ${sendIpi(SMI, 0)}
        ${EXIT_OK}`;
      const { result } = await runGuest(assemble(source), { apic });
      expect(result).toMatchObject({ reason: 'debug-exit', status: GUEST_OK });
    },
  );
});
