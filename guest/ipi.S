# ipi: two CPUs play ping-pong with fixed interrupts, both halted between strokes; first in xAPIC, then in x2APIC mode.
#
# Output, for each mode:   ipi mode=xapic rounds=1000 cycles=<TSC cycles a round trip> ns=<the same in nanoseconds>
#            or            ipi mode=xapic skipped: <why>
# Exit value: 0; 3 if a stroke got lost (or 1,000 take over 30 s); 4 if there is only one CPU.

        .include "defs.inc"

        .set ROUNDS, 1000
        .set VECTOR_PING, 0x50          # to the second CPU
        .set VECTOR_PONG, 0x51          # to the boot CPU

function main
        movq $say_rounds, timeout_hook
        call time_init
        call smp_init
        cmpl $2, cpu_count
        jae 1f
        say "ipi: this needs two CPUs\n"
        exit_with EXIT_UNSUPPORTED
1:      movl $2, cpu_count              # the others stay out of it
        mov cpu_list + 8, %rax
        mov CPU_ID(%rax), %eax
        mov %eax, partner
        mov boot_cpu + CPU_ID, %eax
        mov %eax, server
        call apic_has_x2apic
        mov %eax, %ebx
        call smp_highest_id
        cmp $0xff, %eax
        jae 2f

        call smp_start
        mov $VECTOR_PING, %edi
        mov $ping_xapic, %esi
        call set_gate
        mov $VECTOR_PONG, %edi
        mov $pong_xapic, %esi
        call set_gate
        say "ipi mode=xapic"
        call play
        test %ebx, %ebx
        jz 9f
        mov $apic_mode_x2apic, %edi
        call smp_call
        jmp 3f

2:      say "ipi mode=xapic skipped: an APIC ID is over 0xfe\n"
        test %ebx, %ebx
        jz 9f
        call apic_mode_x2apic
        call smp_start
        mov $apic_to_x2apic, %edi
        call smp_call

3:      mov $VECTOR_PING, %edi
        mov $ping_x2apic, %esi
        call set_gate
        mov $VECTOR_PONG, %edi
        mov $pong_x2apic, %esi
        call set_gate
        say "ipi mode=x2apic"
        call play
        xor %eax, %eax
        ret
9:      say "ipi mode=x2apic skipped: CPUID does not offer it\n"
        xor %eax, %eax
        ret

# The boot CPU went ahead.
apic_to_x2apic:
        cmpl $0, %gs:CPU_X2APIC
        je apic_mode_x2apic
        ret

# Serves, and sleeps until ROUNDS strokes came back. The handlers play.
play:
        push %rbx
        movl $0, rounds
        mov $what, %edi
        mov $100000, %esi
        mov $30, %edx
        call watchdog_on
        read_tsc
        mov %rax, %rbx
        mov partner, %edi
        mov $ICR_FIXED | ICR_ASSERT | VECTOR_PING, %esi
        call apic_send
1:      cli
        cmpl $ROUNDS, rounds
        jae 2f
        sti
        hlt
        jmp 1b
2:      sti
        read_tsc
        sub %rbx, %rax
        xor %edx, %edx
        mov $ROUNDS, %ecx
        div %rcx
        mov %rax, %rbx
        call watchdog_off
        say_dec " rounds=", $ROUNDS
        say_dec " cycles=", %rbx
        mov %rbx, %rdi
        call tsc_to_ns
        mov %rax, %rbx
        say_dec " ns=", %rbx
        say "\n"
        pop %rbx
        ret

# The strokes. They are the gates themselves, so that what is measured is the machine and not this guest. The stroke
# before was taken, so the ICR is idle: no need to ask.
ping_xapic:
        push %rax
        push %rdx
        mov server, %eax
        mov $VECTOR_PONG | ICR_ASSERT, %edx
        jmp strike_xapic
pong_xapic:
        push %rax
        push %rdx
        incl rounds
        cmpl $ROUNDS, rounds
        mov $APIC_DEFAULT_BASE, %edx
        jae 1f
        mov partner, %eax
        mov $VECTOR_PING | ICR_ASSERT, %edx
strike_xapic:                           # eax = destination, edx = ICR low
        shl $24, %eax
        push %rcx
        mov $APIC_DEFAULT_BASE, %ecx
        mov %eax, APIC_ICR2(%rcx)
        mov %edx, APIC_ICR(%rcx)
        mov %ecx, %edx
        pop %rcx
1:      movl $0, APIC_EOI(%rdx)
        pop %rdx
        pop %rax
        iretq

ping_x2apic:
        push %rax
        push %rcx
        push %rdx
        mov server, %edx
        mov $VECTOR_PONG | ICR_ASSERT, %eax
        jmp strike_x2apic
pong_x2apic:
        push %rax
        push %rcx
        push %rdx
        incl rounds
        cmpl $ROUNDS, rounds
        jae 1f
        mov partner, %edx
        mov $VECTOR_PING | ICR_ASSERT, %eax
strike_x2apic:                          # edx = destination, eax = ICR low; nothing stored that the other one reads
        mov $MSR_X2APIC + APIC_ICR / 16, %ecx
        wrmsr
1:      mov $MSR_X2APIC + APIC_EOI / 16, %ecx
        xor %eax, %eax
        xor %edx, %edx
        wrmsr
        pop %rdx
        pop %rcx
        pop %rax
        iretq

say_rounds:
        mov rounds, %eax
        say_dec "strokes that came back: ", %rax
        say "\n"
        ret

        .section .rodata
what:   .asciz "the end of the game"

        .bss
        .balign 4
partner: .skip 4                        # x2APIC ID of the second CPU
server: .skip 4                         # x2APIC ID of the boot CPU
rounds: .skip 4                         # strokes that came back
