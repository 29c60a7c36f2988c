# bench-ipi: what an interrupt from one CPU to another costs, first in xAPIC, then where CPUID offers it in x2APIC mode.
# Each batch prints the TSC cycles that COUNT operations took.
#
# Output:     bench <operation> <count> <TSC cycles>     once for each batch and operation
# Operations: ipi-running   to a CPU that spins with interrupts on, until its handler has run
#             ipi-halted    to a CPU in HLT, until its handler has run
#             ipi-pingpong  there and back, both halted between strokes: two IPIs for each of COUNT
#             and the same with -msr in x2APIC mode
# Exit value: 0; 4 if there is only one CPU

        .include "defs.inc"

        .set BATCHES, 40
        .set COUNT, 50
        .set VECTOR_COUNT, 0x50         # to the second CPU: count it
        .set VECTOR_PING, 0x51          # to the second CPU: answer with PONG
        .set VECTOR_PONG, 0x52          # to the boot CPU: count it
        .set MSR_ICR, MSR_X2APIC + APIC_ICR / 16
        .set MSR_EOI, MSR_X2APIC + APIC_EOI / 16

        .macro report name:req, code:req
        call \code
        push %rax
        say "bench \name"
        say_dec " ", $COUNT
        pop %rax
        say_dec " ", %rax
        say "\n"
        .endm

        .macro gate vector:req, code:req
        mov $\vector, %edi
        mov $\code, %esi
        call set_gate
        .endm

function main
        mov $APIC_DEFAULT_BASE, %r15d
        call time_init
        call smp_init
        cmpl $2, cpu_count
        jae 1f
        say "bench-ipi: this needs two CPUs\n"
        exit_with EXIT_UNSUPPORTED
1:      mov cpu_list + 8, %rax
        mov CPU_ID(%rax), %edi
        mov %edi, partner
        movq $second, cpu_entry
        call cpu_init_sipi
        mov $200, %edi
        call delay_us
        cmpl $0, online
        jne 2f
        mov partner, %edi
        call cpu_sipi
2:      pause
        cmpl $0, online
        je 2b
        sti

        gate VECTOR_COUNT, count_xapic
        gate VECTOR_PING, ping_xapic
        gate VECTOR_PONG, pong_xapic
        movq $strike_xapic, strike
        mov $BATCHES, %ebx
3:      movl $1, spin
        report ipi-running to_other
        movl $0, spin
        report ipi-halted to_other
        report ipi-pingpong play
        dec %ebx
        jnz 3b

        call apic_has_x2apic
        test %eax, %eax
        jz 9f
        movl $0, ready
        movl $1, go_x2apic
        mov partner, %edi
        mov $ICR_FIXED | ICR_ASSERT | VECTOR_COUNT, %esi
        call apic_send
4:      pause
        cmpl $0, ready
        je 4b
        call apic_mode_x2apic
        gate VECTOR_COUNT, count_x2apic
        gate VECTOR_PING, ping_x2apic
        gate VECTOR_PONG, pong_x2apic
        movq $strike_x2apic, strike
        mov $BATCHES, %ebx
5:      movl $1, spin
        report ipi-running-msr to_other
        movl $0, spin
        report ipi-halted-msr to_other
        report ipi-pingpong-msr play
        dec %ebx
        jnz 5b
9:      xor %eax, %eax
        ret

# The second CPU: halts or spins as it is told, and changes its mode once.
second:
        call smp_arrived
        mov $APIC_DEFAULT_BASE, %r15d
1:      cli
        cmpl $0, go_x2apic
        je 2f
        cmpl $0, %gs:CPU_X2APIC
        jne 2f
        call apic_mode_x2apic
        movl $1, ready
2:      cmpl $0, spin
        jne 3f
        sti
        hlt
        jmp 1b
3:      sti
4:      pause
        cmpl $0, spin
        jne 4b
        jmp 1b

# COUNT interrupts to the second CPU, each awaited by spinning.
to_other:
        push %rbx
        mov partner, %edi               # one that is not counted: it notices what `spin` says
        mov $VECTOR_COUNT, %esi
        call strike_and_wait
        mov $COUNT, %ebx
        read_tsc
        mov %rax, %r12
1:      mov partner, %edi
        mov $VECTOR_COUNT, %esi
        call strike_and_wait
        dec %ebx
        jnz 1b
        read_tsc
        sub %r12, %rax
        pop %rbx
        ret

strike_and_wait:
        mov taken, %r8d
        call *strike
1:      pause
        cmp taken, %r8d
        je 1b
        ret

# COUNT strokes there and back; the handlers play.
play:
        movl $0, rounds
        read_tsc
        mov %rax, %r12
        mov partner, %edi
        mov $VECTOR_PING, %esi
        call *strike
1:      cli
        cmpl $COUNT, rounds
        jae 2f
        sti
        hlt
        jmp 1b
2:      sti
        read_tsc
        sub %r12, %rax
        ret

# strike_*(edi = destination, esi = vector). The interrupt before was taken, so the ICR is idle: no need to ask.
strike_xapic:
        shl $24, %edi
        or $ICR_FIXED | ICR_ASSERT, %esi
        mov %edi, APIC_ICR2(%r15)
        mov %esi, APIC_ICR(%r15)
        ret
strike_x2apic:
        mov $MSR_ICR, %ecx
        mov %esi, %eax
        or $ICR_FIXED | ICR_ASSERT, %eax
        mov %edi, %edx
        wrmsr
        ret

# r15 = the APIC page, on both CPUs. Handlers, straight from their gates. EOI first, since whoever waits for the count may send the next one at once.
count_xapic:
        movl $0, APIC_EOI(%r15)
        incl taken
        iretq
ping_xapic:
        movl $0, APIC_EOI(%r15)
        push %rsi
        push %rdi
        mov boot_cpu + CPU_ID, %edi
        mov $VECTOR_PONG, %esi
        call strike_xapic
        pop %rdi
        pop %rsi
        iretq
pong_xapic:
        movl $0, APIC_EOI(%r15)
        incl rounds
        cmpl $COUNT, rounds
        jae 1f
        push %rsi
        push %rdi
        mov partner, %edi
        mov $VECTOR_PING, %esi
        call strike_xapic
        pop %rdi
        pop %rsi
1:      iretq

        .macro eoi_x2apic
        mov $MSR_EOI, %ecx
        xor %eax, %eax
        xor %edx, %edx
        wrmsr
        .endm
count_x2apic:
        push %rax
        push %rcx
        push %rdx
        eoi_x2apic
        incl taken
        pop %rdx
        pop %rcx
        pop %rax
        iretq
ping_x2apic:
        push %rax
        push %rcx
        push %rdx
        eoi_x2apic
        mov boot_cpu + CPU_ID, %edx
        mov $ICR_FIXED | ICR_ASSERT | VECTOR_PONG, %eax
        mov $MSR_ICR, %ecx
        wrmsr
        pop %rdx
        pop %rcx
        pop %rax
        iretq
pong_x2apic:
        push %rax
        push %rcx
        push %rdx
        eoi_x2apic
        incl rounds
        cmpl $COUNT, rounds
        jae 1f
        mov partner, %edx
        mov $ICR_FIXED | ICR_ASSERT | VECTOR_PING, %eax
        mov $MSR_ICR, %ecx
        wrmsr
1:      pop %rdx
        pop %rcx
        pop %rax
        iretq

        .bss
        .balign 8
strike: .skip 8
partner: .skip 4                        # APIC ID of the second CPU
taken:  .skip 4                         # interrupts that the second CPU has counted
rounds: .skip 4                         # strokes that came back
spin:   .skip 4                         # 1: the second CPU is to spin, 0: to halt
go_x2apic: .skip 4
ready:  .skip 4                         # 1: it is in x2APIC mode
