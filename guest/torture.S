# torture: every CPU writes pseudo-random values to random ports, APIC registers, MSRs and I/O APIC registers, and the
# boot CPU restarts others in the middle of it, for two seconds. The monitor has to stand it.
#
# Each CPU's sequence depends on its index alone. Left out, since they end the VM, reset it or make it run random
# code, which says nothing about it: the debug exit, resets (8042, 0x92, 0xcf9, 0x5f0), ACPI power and SMI ports, the PICs
# (their vectors look like exceptions), fw_cfg's DMA, QEMU's port 0x7e (it patches the guest's code); SMI, INIT and SIPI
# with random targets (delivery modes 2, 5, 6), NMI to any but the sender itself (a CPU that starts has no IDT yet);
# changes of the BSP bit in IA32_APIC_BASE; an INIT that meets a CPU as it turns its APIC off or changes its ID, since no
# SIPI would find it any more (CPU_REACH); APIC IDs below 0x80, which may be another CPU's.
# Under QEMU only with one CPU: its register block ejects the others when asked at random.
# Output (there is other output before it: the serial port is among the ports):
#   torture: cpus=4 operations=123456 faults=2345 interrupts=678 restarts=9
# Exit value: 0; 1 if a CPU did not come back, after a line that names it.

        .include "defs.inc"

        .set MILLISECONDS, 2000
        .set IOAPIC, 0xfec00000

        # In the CPU's record
        .set CPU_RANDOM, CPU_USER       # quad: state of the generator, never 0
        .set CPU_OPERATIONS, CPU_USER + 8 # dwords
        .set CPU_FAULTS, CPU_USER + 12
        .set CPU_INTERRUPTS, CPU_USER + 16
        .set CPU_DONE, CPU_USER + 20
        .set CPU_REACH, CPU_USER + 24   # dword: does INIT reach this CPU's APIC, REACH_*

        .set REACH_NOT, 0               # not known, or it is just changing
        .set REACH_BY_ID, 1             # yes; the CPU withdraws this before it changes its APIC's mode, address or ID
        .set REACH_RESTART, 2           # INIT and SIPI are on their way, and the CPU changes nothing before they came

function main
        call time_init
        call smp_init
        call apic_has_x2apic
        test %eax, %eax
        jz 1f
        call apic_mode_x2apic
1:      mov $16, %ecx
2:      movq $interrupted, handlers(, %rcx, 8)
        inc %ecx
        cmp $256, %ecx
        jb 2b
        movq $interrupted, handlers + 8 * 2
        # Interrupts may come with vectors whose stubs expect an error code; the stub beside does not.
        mov $17, %edi
        mov $0x100000 + 16 * 16, %esi   # STUBS_BASE, lib/idt.S
        call set_gate
        mov $21, %edi
        mov $0x100000 + 20 * 16, %esi
        call set_gate

        mov $MILLISECONDS * 1000000, %rdi
        call ns_to_tsc
        mov %rax, %rbx
        read_tsc
        add %rax, %rbx
        mov %rbx, end
        movq $work, cpu_entry
        mov $1, %ebx                    # not smp_start: its bounded wait needs the APIC in order
3:      cmp cpu_count, %ebx
        jae 4f
        mov cpu_list(, %rbx, 8), %rax
        mov CPU_ID(%rax), %edi
        call cpu_init_sipi
        inc %ebx
        jmp 3b
4:      call work_until_end
        cli
        xor %eax, %eax
        mov %rax, %cr8

        # Order again: this CPU's APIC, for the delays, and the serial port. Meanwhile the others finish.
        mov $MSR_APIC_BASE, %ecx
        mov $APIC_DEFAULT_BASE | APIC_BASE_BSP, %eax
        xor %edx, %edx
        wrmsr
        or $APIC_BASE_ENABLE, %eax
        wrmsr
        call apic_init
        call apic_has_x2apic
        test %eax, %eax
        jz 5f
        call apic_mode_x2apic
5:      mov $200, %ebp                  # 10 s
6:      mov $50000, %edi
        call delay_us
        xor %ebx, %ebx
        mov %ebp, %r12d
7:      inc %ebx
        cmp cpu_count, %ebx
        jae 8f
        mov cpu_list(, %rbx, 8), %rax
        cmpl $0, CPU_DONE(%rax)
        jne 7b
        xor %r12d, %r12d
        jmp 7b
8:      test %r12d, %r12d
        jnz 9f
        dec %ebp
        jnz 6b
9:      call serial_init
        jmp report

report:
        say "\ntorture: cpus="
        mov cpu_count, %edi
        call print_dec
        xor %ebx, %ebx
        xor %ebp, %ebp
        xor %r12d, %r12d
        xor %r13d, %r13d
1:      mov cpu_list(, %rbx, 8), %rax
        mov CPU_OPERATIONS(%rax), %ecx
        add %rcx, %rbp
        mov CPU_FAULTS(%rax), %ecx
        add %rcx, %r12
        mov CPU_INTERRUPTS(%rax), %ecx
        add %rcx, %r13
        inc %ebx
        cmp cpu_count, %ebx
        jb 1b
        say_dec " operations=", %rbp
        say_dec " faults=", %r12
        say_dec " interrupts=", %r13
        mov restarts, %eax
        say_dec " restarts=", %rax
        say "\n"
        xor %ebx, %ebx
2:      inc %ebx
        cmp cpu_count, %ebx
        jae 3f
        mov cpu_list(, %rbx, 8), %rax
        cmpl $0, CPU_DONE(%rax)
        jne 2b
        mov CPU_ID(%rax), %edi
        say_hex "torture: a CPU did not come back: ", %rdi
        say "\n"
        movl $EXIT_FAILED, failed
        jmp 2b
3:      mov failed, %eax
        ret

# Any interrupt, NMI included. EOI in whatever mode the APIC is in; there may be nothing to EOI.
interrupted:
        incl %gs:CPU_INTERRUPTS
        cmp $2, %edi
        je 2f
        mov $MSR_APIC_BASE, %ecx
        rdmsr
        test $APIC_BASE_EXTD, %eax
        jz 1f
        mov $MSR_X2APIC + APIC_EOI / 16, %ecx
        xor %eax, %eax
        xor %edx, %edx
        jmp wrmsr_safe
1:      mov $APIC_DEFAULT_BASE, %eax
        movl $0, APIC_EOI(%rax)
2:      ret

# The other CPUs: after each restart, on with it.
work:
        movl $REACH_BY_ID, %gs:CPU_REACH
        call apic_init
        call work_until_end
        cli
        movl $1, %gs:CPU_DONE
1:      hlt
        jmp 1b

work_until_end:
        push %rbx
        cmpq $0, %gs:CPU_RANDOM
        jne 1f
        mov %gs:CPU_INDEX, %eax
        inc %eax
        mov $0x9e3779b97f4a7c15, %rcx
        imul %rcx, %rax
        mov %rax, %gs:CPU_RANDOM
1:      sti
        incl %gs:CPU_OPERATIONS
        call random
        mov %eax, %ebx
        and $15, %eax
        call *operations(, %rax, 8)
        read_tsc
        cmp end, %rax
        jb 1b
        pop %rbx
        ret

# rax = random 64 bits (xorshift). Keeps all but rcx.
random:
        mov %gs:CPU_RANDOM, %rax
        mov %rax, %rcx
        shl $13, %rcx
        xor %rcx, %rax
        mov %rax, %rcx
        shr $7, %rcx
        xor %rcx, %rax
        mov %rax, %rcx
        shl $17, %rcx
        xor %rcx, %rax
        mov %rax, %gs:CPU_RANDOM
        ret

# rax = a random value: one time in two with few bits set. No delivery mode 2, 5 or 6 where an ICR, LVT or redirection
# entry has it; with delivery mode 4 (NMI) the shorthand "self" where the ICR has it.
random_value:
        call random
        test $0x10000, %eax
        jz 1f
        mov %rax, %rdx
        call random
        and %rdx, %rax
        mov %rax, %rdx
        call random
        and %rdx, %rax
1:      mov %eax, %edx
        shr $8, %edx
        and $7, %edx
        mov $0b01100100, %ecx
        bt %edx, %ecx
        jnc 2f
        and $~0x700, %rax
2:      cmp $4, %edx
        jne 3f
        and $~(3 << 18), %rax
        or $1 << 18, %rax
3:      ret

# edx = a port that may be used: any, or one near a device
random_port:
        call random
        mov %eax, %edx
        shr $16, %edx
        test $1, %eax
        jz 1f
        mov %edx, %ecx
        and $7, %ecx
        shr $4, %edx
        and $15, %edx
        add devices(, %rcx, 4), %edx
1:      xor %ecx, %ecx
2:      cmp forbidden(, %rcx, 8), %edx  # first and last port
        jb 3f
        cmp forbidden + 4(, %rcx, 8), %edx
        jbe random_port
3:      inc %ecx
        cmp $FORBIDDEN, %ecx
        jb 2b
        ret

write_port_8:
        call random_port
        call random_8_keeping_port
        out %al, %dx
        ret
write_port_16:
        call random_port
        call random_8_keeping_port
        out %ax, %dx
        ret
write_port_32:
        call random_port
        call random_8_keeping_port
        out %eax, %dx
        ret
random_8_keeping_port:
        push %rdx
        call random_value
        pop %rdx
        ret
read_port:
        call random_port
        test $0x100, %ebx
        jz 1f
        in %dx, %al
        ret
1:      test $0x200, %ebx
        jz 2f
        in %dx, %ax
        ret
2:      in %dx, %eax
        ret

# edi = an address in the APIC page, any alignment; not across its end
random_apic_address:
        call random
        and $0xfff, %eax
        test $0x400, %ebx               # mostly the registers
        jz 1f
        and $0x3f0, %eax
1:      cmp $0xff8, %eax
        jbe 2f
        mov $0xff8, %eax
2:      lea APIC_DEFAULT_BASE(%rax), %edi
        ret

write_apic:
        call random_apic_address
        mov %edi, %eax
        and $0xff0, %eax
        cmp $APIC_ID, %eax
        jne 5f
        call withdraw_reach
        call random
        or $0x80000000, %eax
        mov %eax, (%rdi)
        ret
5:      call random_value
        mov %edi, %ecx                  # the ICR by whole registers only: parts could add up to an INIT
        and $0xff8, %ecx
        cmp $0x2f8, %ecx
        jb 1f
        cmp $0x310, %ecx
        jae 1f
        and $~0xf, %edi
        mov %eax, (%rdi)
        ret
1:      mov %ebx, %ecx
        shr $8, %ecx
        and $3, %ecx
        jz 2f
        dec %ecx
        jz 3f
        dec %ecx
        jz 4f
        mov %rax, (%rdi)
        ret
2:      mov %al, (%rdi)
        ret
3:      mov %ax, (%rdi)
        ret
4:      mov %eax, (%rdi)
        ret

read_apic:
        call random_apic_address
        mov %ebx, %ecx
        shr $8, %ecx
        and $3, %ecx
        jz 2f
        dec %ecx
        jz 3f
        dec %ecx
        jz 4f
        mov (%rdi), %rax
        ret
2:      mov (%rdi), %al
        ret
3:      mov (%rdi), %ax
        ret
4:      mov (%rdi), %eax
        ret

write_msr:
        call random_value
        mov %rax, %rdx
        test $0x100, %ebx
        jz 1f
        xor %edx, %edx                  # so that not all of them fault
1:      shr $32, %rdx
        mov %ebx, %ecx
        shr $16, %ecx
        and $0xff, %ecx
        add $MSR_X2APIC, %ecx
        test $0x600, %ebx
        jnz 2f
        mov $MSR_TSC_DEADLINE, %ecx
2:      jmp wrmsr_counting

# The mode and the address of the APIC, mostly by writing what should not fault. After random values the APIC is
# disabled more often than not, so that nothing happens any more: three times in four it is put in order instead.
write_apic_base:
        call withdraw_reach
        test $0x1800, %ebx
        jz random_apic_base
        mov $MSR_APIC_BASE, %ecx
        rdmsr
        and $APIC_BASE_BSP, %eax
        or $APIC_DEFAULT_BASE, %eax
        xor %edx, %edx
        wrmsr
        or $APIC_BASE_ENABLE, %eax
        wrmsr
        call apic_init
        xor %eax, %eax
        mov %rax, %cr8
        mov $APIC_ICR, %edi             # and something arrives: by shorthand, at itself or at all
        mov %ebx, %esi
        shr $16, %esi
        and $0xff, %esi
        or $ICR_FIXED | ICR_ASSERT | 1 << 18, %esi
        test $0x4000, %ebx
        jz 5f
        xor $3 << 18, %esi
5:      call apic_write
        test $0x2000, %ebx
        jz 6f
        mov $MSR_APIC_BASE, %ecx
        rdmsr
        or $APIC_BASE_EXTD, %eax
        call wrmsr_counting
6:      movl $REACH_BY_ID, %gs:CPU_REACH
        ret
random_apic_base:
        call random_value
        mov %rax, %rdx
        shr $32, %rdx
        test $0x700, %ebx
        jz 1f
        and $0xc00, %eax
        or $APIC_DEFAULT_BASE, %eax
        xor %edx, %edx
1:      and $~APIC_BASE_BSP, %eax
        cmpl $0, %gs:CPU_INDEX
        jne 2f
        or $APIC_BASE_BSP, %eax
2:      mov $MSR_APIC_BASE, %ecx

# wrmsr_safe, and counts a #GP
wrmsr_counting:
        call wrmsr_safe
        test %eax, %eax
        jz 3f
        incl %gs:CPU_FAULTS
3:      ret

read_msr:
        mov %ebx, %ecx
        shr $16, %ecx
        and $0xff, %ecx
        add $MSR_X2APIC, %ecx
        call rdmsr_safe
        test %r8d, %r8d
        jz 1f
        incl %gs:CPU_FAULTS
1:      ret

write_cr8:
        mov %ebx, %eax
        shr $8, %eax
        and $15, %eax
        mov %rax, %cr8
        ret

write_ioapic:
        call random_value
        btr $10, %eax                   # no NMI, not even to itself: there is no shorthand here
        mov $IOAPIC, %edi
        mov %ebx, %ecx
        shr $8, %ecx
        and $0x3f, %ecx
        mov %ecx, (%rdi)
        mov %eax, 0x10(%rdi)
        ret

# One time in 16, by the boot CPU only: INIT and SIPI to one of the others, in whatever mode its own APIC is.
restart:
        cmpl $0, %gs:CPU_INDEX
        jne 1f
        test $0xf00, %ebx
        jnz 1f
        cmpl $1, cpu_count
        je 1f
        mov %ebx, %eax
        shr $16, %eax
        xor %edx, %edx
        mov cpu_count, %ecx
        dec %ecx
        div %ecx
        mov cpu_list + 8(, %rdx, 8), %rsi
        mov $MSR_APIC_BASE, %ecx
        rdmsr
        mov %eax, %ecx
        and $~0x7ff, %ecx
        cmp $APIC_DEFAULT_BASE | APIC_BASE_ENABLE, %ecx
        jne 1f
        cmpl $0xff, CPU_ID(%rsi)        # 8 bits must not become somebody else's, and every mode must be reached
        jae 1f
        shr $10, %eax
        and $1, %eax
        mov %eax, %gs:CPU_X2APIC
        mov $REACH_BY_ID, %eax
        mov $REACH_RESTART, %ecx
        lock cmpxchg %ecx, CPU_REACH(%rsi)
        jne 1f
        incl restarts
        cli
        mov CPU_ID(%rsi), %edi
        jmp cpu_init_sipi
1:      ret

# Before this CPU changes how it is reached: waits for an INIT that is on its way. Keeps rdi and rbx.
withdraw_reach:
        mov $REACH_BY_ID, %eax
        mov $REACH_NOT, %ecx
        lock cmpxchg %ecx, %gs:CPU_REACH
        pause
        cmp $REACH_RESTART, %eax
        je withdraw_reach
        ret

        .data
        .balign 8
operations:
        .quad write_port_8, write_port_16, write_port_32, read_port
        .quad write_apic, write_apic, write_apic, read_apic
        .quad write_msr, write_msr, write_msr, read_msr
        .quad write_apic_base, write_cr8, write_ioapic, restart
end:    .quad 0                         # TSC
devices:
        .long 0x3f8, 0xcd8, 0x40, 0x70, 0x3f8, 0xcd8, 0x2000, 0x4d0
forbidden:                              # first and last port; an access of 4 bytes may begin 3 ports before
        .long 0x1d, 0x21, 0x60, 0x67, 0x7b, 0x7f, 0x8f, 0x95, 0x9d, 0xa1, 0xaf, 0xb3, 0xf1, 0xf7, 0x50d, 0x51f
        .long 0x5ed, 0x5f7, 0x5fd, 0x6ff, 0xcf5, 0xcff
        .set FORBIDDEN, (. - forbidden) / 8

        .bss
        .balign 4
restarts: .skip 4
failed: .skip 4                         # exit value
