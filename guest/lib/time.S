# Time: the rates of the TSC and of the APIC timer, and waits that are halted and bounded.
#
# Whoever waits sleeps in HLT. A periodic APIC timer on VECTOR_TICK of the waiting CPU looks at the TSC: past the
# bound it prints what was awaited and ends the VM with EXIT_TIMEOUT, so no guest hangs silently.

        .include "defs.inc"

        .set BOUND_SECONDS, 10
        .set LOOK_MICROSECONDS, 4000    # at a millisecond, an emulated host has no time for anything else

# Finds tsc_khz and apic_khz (input of the timer's divider): from CPUID leaf 0x40000010 where the hypervisor has it,
# else the APIC timer is taken for KVM's, 1 GHz, and the TSC is measured against it.
function time_init
        push %rbx
        on_vector VECTOR_TICK, tick
        mov $0x40000000, %eax
        cpuid
        cmp $0x40000010, %eax
        jb 1f
        cmp $0x40000100, %eax
        jae 1f
        mov $0x40000010, %eax
        cpuid
        test %eax, %eax
        jz 1f
        test %ebx, %ebx
        jz 1f
        mov %eax, tsc_khz
        mov %ebx, apic_khz
        movl $1, rates_known
        pop %rbx
        ret
1:      movl $1000000, apic_khz
        mov $APIC_LVTT, %edi
        mov $LVT_MASKED | VECTOR_TICK, %esi
        call apic_write
        mov $APIC_TDCR, %edi
        mov $TDCR_1, %esi
        call apic_write
        mov $APIC_TMICT, %edi
        mov $-1, %esi
        call apic_write
        call sample
        jz 3f
        mov %rax, %r9
        mov %ebx, %r10d
        mov $10000000, %r11d            # reads, not time: the timer may stand still
2:      dec %r11d
        jz 3f
        mov $APIC_TMCCT, %edi
        call apic_read
        mov %r10d, %edx
        sub %eax, %edx
        cmp $10000000, %edx             # 10 ms
        jb 2b
        call sample
        jz 3f
        sub %r9, %rax
        sub %ebx, %r10d
        mov $1000000, %ecx
        mul %rcx
        div %r10
        mov %eax, tsc_khz
        mov $APIC_TMICT, %edi
        xor %esi, %esi
        call apic_write
        pop %rbx
        ret
3:      say "the APIC timer does not count\n"
        exit_with EXIT_FAILED

# rax = TSC, ebx = the APIC timer's current count at that time: the closest pair of sixteen. ZF = 1 if the count is 0.
sample:
        push %r12
        push %r13
        mov $-1, %r8                    # shortest time that a reading took
        mov $16, %r12d
1:      read_tsc
        mov %rax, %rsi
        mov $APIC_TMCCT, %edi
        call apic_read                  # keeps rsi
        mov %eax, %ecx
        read_tsc
        mov %rax, %rdx
        sub %rsi, %rdx
        cmp %r8, %rdx
        jae 2f
        mov %rdx, %r8
        mov %rsi, %r13
        mov %ecx, %ebx
2:      dec %r12d
        jnz 1b
        mov %r13, %rax
        pop %r13
        pop %r12
        test %ebx, %ebx
        ret

# ns_to_tsc(rdi = nanoseconds) -> rax = TSC ticks
function ns_to_tsc
        mov %rdi, %rax
        mov tsc_khz, %ecx
        mul %rcx
        mov $1000000, %ecx
        div %rcx
        ret

# tsc_to_ns(rdi = TSC ticks) -> rax = nanoseconds
function tsc_to_ns
        mov %rdi, %rax
        mov $1000000, %ecx
        mul %rcx
        mov tsc_khz, %ecx
        div %rcx
        ret

# Spins for edi microseconds.
function delay_us
        imul $1000, %rdi, %rdi
        call ns_to_tsc
        mov %rax, %rcx
        read_tsc
        add %rax, %rcx
1:      pause
        read_tsc
        cmp %rcx, %rax
        jb 1b
        ret

# watchdog_on(rdi = what is awaited, esi = microseconds between looks, edx = bound in seconds)
# Wakes this CPU from HLT at that pace, and ends the VM after the bound. Uses this CPU's APIC timer.
function watchdog_on
        push %rbx
        mov %rdi, awaited
        mov %esi, %ebx
        imul $1000000000, %rdx, %rdi
        call ns_to_tsc
        mov %rax, %rcx
        read_tsc
        add %rcx, %rax
        mov %rax, bound
        mov $APIC_TDCR, %edi
        mov $TDCR_1, %esi
        call apic_write
        mov $APIC_LVTT, %edi
        mov $LVTT_PERIODIC | VECTOR_TICK, %esi
        call apic_write
        mov apic_khz, %esi
        imul %rbx, %rsi
        mov %rsi, %rax
        xor %edx, %edx
        mov $1000, %ecx
        div %rcx
        mov %eax, %esi
        mov $APIC_TMICT, %edi
        call apic_write
        pop %rbx
        ret

# A tick may still be on its way.
function watchdog_off
        movq $-1, bound
        mov $APIC_TMICT, %edi
        xor %esi, %esi
        jmp apic_write

tick:
        call apic_eoi
        read_tsc
        cmp bound, %rax
        ja timeout
        ret

timeout:
        say "\ntimeout: awaited "
        mov awaited, %rdi
        call print
        say "\n"
        mov timeout_hook, %rax
        test %rax, %rax
        jz 1f
        call *%rax
1:      exit_with EXIT_TIMEOUT

# await(rdi = address of a dword, esi = value, rdx = what that means): sleeps until the dword is at least the value,
# unsigned. Leaves interrupts on.
function await
        push %rbx
        push %rbp
        mov %rdi, %rbx
        mov %esi, %ebp
        cmp %ebp, (%rbx)
        jae 3f
        mov %rdx, %rdi
        mov $LOOK_MICROSECONDS, %esi
        mov $BOUND_SECONDS, %edx
        call watchdog_on
1:      cli
        cmp %ebp, (%rbx)
        jae 2f
        sti
        hlt
        jmp 1b
2:      call watchdog_off
3:      sti
        pop %rbp
        pop %rbx
        ret

# await_for(rdi = address of a dword, esi = value, edx = milliseconds) -> eax = 1, or 0 if that took too long
# Like await, but the caller goes on.
function await_for
        push %rbx
        push %rbp
        push %r12
        mov %rdi, %rbx
        mov %esi, %ebp
        imul $1000000, %rdx, %rdi
        call ns_to_tsc
        mov %rax, %r12
        read_tsc
        add %rax, %r12
        mov $nothing, %edi
        mov $LOOK_MICROSECONDS, %esi
        mov $3600, %edx
        call watchdog_on
1:      cli
        mov $1, %ecx
        cmp %ebp, (%rbx)
        jae 2f
        xor %ecx, %ecx
        read_tsc
        cmp %r12, %rax
        ja 2f
        sti
        hlt
        jmp 1b
2:      mov %ecx, %ebp
        call watchdog_off
        sti
        mov %ebp, %eax
        pop %r12
        pop %rbp
        pop %rbx
        ret

        .section .rodata
nothing: .asciz "nothing"

        .data
        .balign 8
        .global tsc_khz, apic_khz, rates_known, timeout_hook
bound:          .quad -1
awaited:        .quad 0
timeout_hook:   .quad 0                 # called after the message, to print more
tsc_khz:        .long 0
apic_khz:       .long 0
rates_known:    .long 0                 # 1: both come from CPUID; 0: measured
