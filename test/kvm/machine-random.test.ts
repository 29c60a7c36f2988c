/**
 * A guest that does random things from every vCPU: ports of every device and of none, in every width and direction, local
 * and I/O APIC registers at any offset and width, x2APIC MSRs, IA32_APIC_BASE, INIT and SIPI with random targets, resets.
 * Nothing is left out: what a guest does by it to itself (triple faults, shutdowns, instructions KVM gives up on) ends a
 * run, and the next begins with another seed. What must hold: no run ends by a fault of the monitor, what runs can be
 * looked at and stopped at once, nothing is left behind.
 *
 * APIARY_RANDOM_SECONDS: how long (default 10). APIARY_RANDOM_SEED: the first seed, to repeat a failure.
 */
import { once } from 'node:events';
import { Machine, type MachineOptions } from 'apiary';
import { expect, test } from 'vitest';
import { assemble, describeKvm, leftovers, REAL_MODE, SLOW_HOST_MS } from './support.ts';

const SECONDS = Number(process.env.APIARY_RANDOM_SECONDS ?? 10);
const FIRST_SEED = Number(process.env.APIARY_RANDOM_SEED ?? Date.now() >>> 0);
/** A guest that survives its own doings is stopped this long after its first instruction. */
const RUN_MS = 2500;
const STOP_MS = 3000;
/** A run counts as at least as long, so that guests that end at once end too. */
const LEAST_MS = 50;
/** Where the guest counts what it has done since its last reset. */
const TURNS = 0x8000;
/** In one test: fewer mean that the guests are not alive. Every other guest may reboot, which ends what it counted. */
const MIN_TURNS = 10;

/** Every CPU: 32-bit protected mode without paging, interrupts to `again`, a stack and a generator of its own. */
const source = (seed: number): string => `
    cli
    ljmp $0, $entry
    .org 0x1000                     # 0x2000, where SIPI with vector 2 goes
entry:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl gdt
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $protected

    .code32
protected:
    mov $16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $1, %eax
    lock xadd %eax, cpus
    imul $0x9e3779b1, %eax, %esi    # esi: the generator's state, never 0
    xor $${seed | 1}, %esi
    or $1, %esi
    and $63, %eax
    shl $9, %eax
    lea 0x10200(%eax), %ebp         # ebp: this CPU's stack
    mov %ebp, %esp
    mov $idt_table, %edi            # every CPU fills it, with the same
    mov $256, %ecx
    mov $again, %edx
1:  mov %dx, (%edi)
    movw $8, 2(%edi)
    movw $0x8e00, 4(%edi)
    movw $0, 6(%edi)
    add $8, %edi
    loop 1b
    lidt idt
    movl $0x1ff, 0xfee000f0
    movl $0xc4500, 0xfee00300       # the others: INIT, SIPI
    movl $0xc4602, 0xfee00300

again:                              # no way back: whatever was interrupted is forgotten (KVM's emulator has no iretl)
    mov %ebp, %esp
    sti
turn:
    lock incl ${TURNS}
    call random
    mov %eax, %ebx
    call random
    mov %ebx, %ecx
    shr $28, %ecx
    and $7, %ecx
    jmp *operations(, %ecx, 4)

port_of_device:
    mov %eax, %edi
    and $31, %edi
    movzwl ports(, %edi, 2), %edx
    shr $8, %eax
    and $15, %eax
    add %eax, %edx
    cmp $0xf4, %dx
    je turn
    jmp port
any_port:
    mov %eax, %edx
port:
    call random
    mov %ebx, %ecx
    shr $8, %ecx
    and $7, %ecx
    jmp *accesses(, %ecx, 4)
out8:  out %al, %dx
    jmp turn
out16: out %ax, %dx
    jmp turn
out32: out %eax, %dx
    jmp turn
in8:   in %dx, %al
    jmp turn
in16:  in %dx, %ax
    jmp turn
in32:  in %dx, %eax
    jmp turn
string_out: mov $3, %ecx
    push %esi
    mov $0x9000, %esi
    cld
    rep outsl
    pop %esi
    jmp turn
string_in: mov $3, %ecx
    mov $0x9000, %edi
    cld
    rep insw
    jmp turn

local_apic:
    and $0xfff, %eax
    test $0x100, %ebx               # half of them where a register is
    jz 1f
    and $0xff0, %eax
1:  lea 0xfee00000(%eax), %edi
    jmp memory
io_apic:
    and $0x5f, %eax
    test $0x100, %ebx
    jz 1f
    and $0x10, %eax
1:  lea 0xfec00000(%eax), %edi
    jmp memory
test_device:
    and $0xffff, %eax
    lea 0xff000000(%eax), %edi
memory:
    call random
    mov %ebx, %ecx
    shr $9, %ecx
    and $7, %ecx
    jmp *memory_accesses(, %ecx, 4)
store8:  mov %al, (%edi)
    jmp turn
store16: mov %ax, (%edi)
    jmp turn
store32: mov %eax, (%edi)
    jmp turn
small32: and $0xff, %eax
    mov %eax, (%edi)
    jmp turn
load8:   mov (%edi), %al
    jmp turn
load32:  mov (%edi), %eax
    jmp turn
or32:    or %eax, (%edi)
    jmp turn
change:  xchg %eax, (%edi)
    jmp turn

msr:
    mov %eax, %ecx
    and $0xff, %ecx
    or $0x800, %ecx
    test $0x0700, %ebx
    jnz 1f
    mov $0x1b, %ecx                 # one in 8: IA32_APIC_BASE where it was, any mode
    and $0xc00, %eax
    or $0xfee00000, %eax
    xor %edx, %edx
    wrmsr
    jmp turn
1:  test $0x4000, %ebx
    jz 2f
    rdmsr
    jmp turn
2:  call random
    mov %eax, %edx
    call random
    test $0x8000, %ebx              # half of the values small, so that they are not all reserved
    jz 3f
    and $0x7ff, %eax
    and $3, %edx
3:  wrmsr
    jmp turn

idle:
    test $0x1f00, %ebx
    jnz turn
    cmp $0x10200, %ebp
    je restart
    hlt                             # until somebody's random interrupt, or the first CPU's INIT
    jmp turn
restart:                            # by the mode that the first CPU's APIC is in
    mov $0x1b, %ecx
    rdmsr
    and $0xc00, %eax
    cmp $0xc00, %eax
    mov $0xc4500, %eax
    je 1f
    mov %eax, 0xfee00300
    movl $0xc4602, 0xfee00300
    jmp turn
1:  mov $0x830, %ecx
    wrmsr
    mov $0xc4602, %eax
    wrmsr
    jmp turn

random:                             # xorshift32: eax
    mov %esi, %eax
    shl $13, %eax
    xor %eax, %esi
    mov %esi, %eax
    shr $17, %eax
    xor %eax, %esi
    mov %esi, %eax
    shl $5, %eax
    xor %eax, %esi
    mov %esi, %eax
    ret

    .align 8
gdt: .word 23
    .long gdt_table
    .align 8
gdt_table: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
idt: .word 256 * 8 - 1
    .long idt_table
cpus: .long 0
operations: .long port_of_device, port_of_device, any_port, local_apic, local_apic, io_apic, msr, idle
accesses: .long out8, out16, out32, in8, in16, in32, string_out, string_in
memory_accesses: .long store8, store16, store32, small32, load8, load32, or32, change
ports: .word 0x20, 0xa0, 0x40, 0x60, 0x70, 0x80, 0x90, 0xb0, 0xe0, 0x3f8, 0x4d0, 0x510, 0x3f8, 0x600, 0xcd8, 0xcf8
    .word 0x2000, 0x2008, 0x2010, 0x3f8, 0xcd8, 0x510, 0x2004, 0x40, 0x20, 0xa0, 0x70, 0x600, 0x608, 0xb000, 0xafe0, 0x400
    .align 8
idt_table: .fill 256, 8, 0
`;

const machines: Readonly<Record<string, MachineOptions>> = {
  'our APICs, 4 CPUs on 2 threads': { cpus: 4, threads: 2 },
  'our APICs, gate on, sparse IDs, hardware rules, 1 thread': {
    cpus: [0, 3, 0x23, 0x123],
    threads: 1,
    behaviour: 'hardware',
    x2apicApi: { use32bitIds: true },
  },
  'our APICs without a map': { cpus: 3, threads: 3, failMapAllocation: true },
  "KVM's APICs": { cpus: 2, apic: 'kernel' },
};

const sleep = (millis: number): Promise<undefined> => new Promise((resolve) => setTimeout(resolve, millis, undefined));

describeKvm('random guests', () => {
  const share = (SECONDS * 1000) / Object.keys(machines).length;
  test.each(Object.entries(machines))(
    `%s: the monitor stays alive and can be stopped (${SECONDS} s in all, first seed ${FIRST_SEED})`,
    async (_name, options) => {
      const before = leftovers();
      let turns = 0;
      let ranMillis = 0;
      for (let seed = FIRST_SEED; ranMillis < share; seed++) {
        const machine = await Machine.create({ memory: '4M', reboot: seed % 2 === 0, ...options });
        await machine.load(assemble(source(seed >>> 0)), REAL_MODE);
        const entered = once(machine, 'firstRun');
        const running = machine.run();
        await Promise.race([running, entered]);
        const begin = performance.now();
        const result = await Promise.race([running, sleep(Math.min(RUN_MS, share - ranMillis))]);
        ranMillis += performance.now() - begin + LEAST_MS;
        if (result === undefined) {
          expect(machine.cpus.length).toBeGreaterThan(0);
          if (options.apic !== 'kernel') {
            expect(machine.lapic(0).apicId).toBe(0);
            expect(machine.apicMap()).toBeDefined();
          }
          const start = performance.now();
          await machine.stop();
          expect({ seed, millis: performance.now() - start }).toSatisfy(({ millis }) => millis < STOP_MS);
        }
        expect({ seed, ...(await running) }).not.toMatchObject({ reason: 'monitor-error' });
        turns += new DataView(machine.memory.buffer, machine.memory.byteOffset).getUint32(TURNS, true);
      }
      expect(turns).toBeGreaterThan(MIN_TURNS);
      expect(leftovers().descriptors).toEqual(before.descriptors);
    },
    share + SLOW_HOST_MS,
  );
});
