# timer: the three modes of the local APIC timer, in xAPIC and in x2APIC mode, on the boot CPU alone.
#
# Output:   timer rates tsc_khz=2600000 apic_khz=1000000 from=cpuid       (or from=measured: then early has 1.6 % of slack)
#           timer apic=xapic one-shot: ok late_ns=51234                   (late: how long after it was due, where measured)
#           timer apic=xapic periodic: FAILED it fired after it was stopped
#           timer apic=xapic masked: ok unmasked=fires                    (what fell due while masked comes when it is
#                                                                         unmasked, as in KVM; by the SDM it is silent)
#           timer apic=xapic tsc-deadline skipped: CPUID does not offer it
# Each name stands before its result, so a guest that hangs has said where. All waits but those of the cases called
# "halted" spin on the TSC, since a timer that fails must not stop the guest; a halted one comes after the same spun.
# A case that takes an armed timer back begins again if the vCPU was away until it was due.
# Exit value: 0; 1 if a case failed.

        .include "defs.inc"

        .set VECTOR, 0x50
        .set MS, 1000000                # nanoseconds
        .set BOUND_MS, 5000             # for what has to come
        .set ONE_SHOT, VECTOR
        .set PERIODIC, VECTOR | LVTT_PERIODIC
        .set DEADLINE, VECTOR | LVTT_TSC_DEADLINE

        # A case answers 0, or with what is wrong.
        .macro fail_if condition, text
        .pushsection .rodata
        77774: .asciz "\text"
        .popsection
        j\condition 77775f
        .pushsection .text.cold, "ax"
77775:  mov $77774b, %eax
        jmp failure
        .popsection
        .endm

function main
        call time_init
        on_vector VECTOR, fired_now
        mov tsc_khz, %ebx
        say_dec "timer rates tsc_khz=", %rbx
        mov apic_khz, %ebx
        say_dec " apic_khz=", %rbx
        cmpl $0, rates_known
        je 1f
        say " from=cpuid\n"
        jmp 2f
1:      say " from=measured\n"
2:      sti
        mov $1, %eax
        cpuid
        shr $24, %ecx
        and $1, %ecx
        mov %ecx, has_deadline
        movq $xapic, mode
        call all_cases
        call apic_has_x2apic
        test %eax, %eax
        jz 3f
        call apic_mode_x2apic
        movq $x2apic, mode
        call all_cases
        jmp 4f
3:      say "timer apic=x2apic skipped: CPUID does not offer it\n"
4:      mov failed, %eax
        ret

all_cases:
        mov $cases, %ebx
1:      say "timer apic="
        mov mode, %rdi
        call print
        say " "
        mov (%rbx), %rdi
        call print
        cmpl $0, 16(%rbx)
        je 2f
        cmpl $0, has_deadline
        jne 2f
        say " skipped: CPUID does not offer it\n"
        jmp 5f
2:      say ": "
        movl $0, fired
        movq $-1, late
        movq $0, note
        mov %rsp, case_stack
        mov %rbx, case_running
        call *8(%rbx)
        say "ok"
        cmpq $-1, late
        je 3f
        mov late, %rdi
        call tsc_to_ns
        mov %rax, %rbp
        say_dec " late_ns=", %rbp
3:      mov note, %rdi
        test %rdi, %rdi
        jz 4f
        call print
4:      say "\n"
        xor %edi, %edi
        call count_down                 # whatever is armed, is not any more
        mov $ONE_SHOT, %edi
        call set_lvt
5:      add $24, %rbx
        cmp $cases_end, %rbx
        jb 1b
        ret
failure:                                # rax = text
        mov case_stack, %rsp
        mov case_running, %rbx
        mov %rax, %rbp
        say "FAILED "
        mov %rbp, %rdi
        call print
        movl $EXIT_FAILED, failed
        jmp 4b

fired_now:
        read_tsc
        mov %rax, fired_at
        incl fired
        jmp apic_eoi

# set_lvt(edi), set_divider(edi = TDCR), count_down(edi = initial count), count_left -> eax
set_lvt:
        mov %edi, %esi
        mov $APIC_LVTT, %edi
        jmp apic_write
set_divider:
        mov %edi, %esi
        mov $APIC_TDCR, %edi
        jmp apic_write
count_down:
        mov %edi, %esi
        mov $APIC_TMICT, %edi
        jmp apic_write
count_left:
        mov $APIC_TMCCT, %edi
        jmp apic_read

# set_deadline(rdi = TSC value), get_deadline -> rax
set_deadline:
        mov %edi, %eax
        mov %rdi, %rdx
        shr $32, %rdx
        mov $MSR_TSC_DEADLINE, %ecx
        wrmsr
        ret
get_deadline:
        mov $MSR_TSC_DEADLINE, %ecx
        rdmsr
        shl $32, %rdx
        or %rdx, %rax
        ret

# eax = ns_to_count(edi = nanoseconds): at divider 1
ns_to_count:
        mov %edi, %eax
        mov apic_khz, %ecx
        mul %rcx
        mov $1000000, %ecx
        div %rcx
        ret

# arm(edi = LVT, esi = nanoseconds): counts down from now on, at divider 1; notes the earliest time to fire.
arm:
        push %rbx
        mov %esi, %ebx
        call set_lvt
        mov $TDCR_1, %edi
        call set_divider
        mov %ebx, %edi
        call expect_in
        mov %ebx, %edi
        call ns_to_count
        mov %eax, %edi
        call count_down
        pop %rbx
        ret

# Something is started now that is due in edi nanoseconds: due = now + that, less the slack.
expect_in:
        mov %edi, %eax
        mov %eax, %edx
        shr $10, %edx
        add $1000, %edx                 # rates are in whole kHz
        cmpl $0, rates_known
        jne 1f
        mov %eax, %edx
        shr $6, %edx
1:      sub %edx, %eax
        mov %rax, %rdi
        call ns_to_tsc
        mov %rax, %rcx
        read_tsc
        add %rcx, %rax
        mov %rax, due
        ret

# wait_fired(edi = how often) -> eax = 1, or 0 if it took longer than BOUND_MS
wait_fired:
        push %rbx
        push %rbp
        mov %edi, %ebx
        mov $BOUND_MS * MS, %rdi
        call ns_to_tsc
        mov %rax, %rbp
        read_tsc
        add %rax, %rbp
1:      mov $1, %ecx
        cmp %ebx, fired
        jae 2f
        pause
        read_tsc
        cmp %rbp, %rax
        jb 1b
        xor %ecx, %ecx
2:      mov %ecx, %eax
        pop %rbp
        pop %rbx
        ret

# Compares the last firing with `due`; CF = 1 if it was early. Notes how late it was.
check_due:
        mov fired_at, %rax
        sub due, %rax
        jc 1f
        mov %rax, late
        clc
1:      ret

one_shot:
        mov $ONE_SHOT, %edi
        mov $2 * MS, %esi
        call arm
        call count_left
        mov %eax, %ebp
        mov $1, %edi
        call wait_fired
        test %eax, %eax
        fail_if z, "it did not fire"
        call check_due
        fail_if c, "it was early"
        mov $2 * MS, %edi
        call ns_to_count
        cmp %eax, %ebp
        fail_if a, "the current count was over the initial one"
        mov $4000, %edi
        call delay_us
        cmpl $1, fired
        fail_if ne, "it fired again"
        call count_left
        test %eax, %eax
        fail_if nz, "the current count is not 0 afterwards"
        ret

# 1 ms through each divider. In TDCR, bits 3, 1, 0 are the exponent: 000 divides by 2, 110 by 128, 111 by 1.
dividers:
        push %rbx
        push %r12
        mov $ONE_SHOT, %edi
        call set_lvt
        xor %ebx, %ebx
1:      xor %edi, %edi
        call count_down                 # off first: in KVM an expired timer fires once more when its divider changes
        mov %ebx, %edi
        and $4, %edi
        lea (%rbx, %rdi), %edi          # bit 2 to bit 3
        call set_divider
        lea 1(%rbx), %ecx
        and $7, %ecx                    # shift of the divider
        mov apic_khz, %r12d
        shr %cl, %r12d
        movl $0, fired
        mov $MS, %edi
        call expect_in
        mov %r12d, %edi
        call count_down
        mov $1, %edi
        call wait_fired
        test %eax, %eax
        fail_if z, "it did not fire"
        call check_due
        fail_if c, "it was early"
        inc %ebx
        cmp $8, %ebx
        jb 1b
        movq $-1, late
        pop %r12
        pop %rbx
        ret

        .set TICKS, 5
periodic:
        mov $PERIODIC, %edi
        mov $2 * MS, %esi
        call arm
        mov $(TICKS - 1) * 2 * MS, %edi
        call ns_to_tsc
        add %rax, due
        mov $TICKS, %edi
        call wait_fired
        test %eax, %eax
        fail_if z, "it did not fire five times"
        cmpl $TICKS, fired
        jne 1f                          # a tick came between: fired_at is not the fifth one's
        call check_due
        fail_if c, "the fifth time was early"
1:      xor %edi, %edi
        call count_down
        push %r12
        mov $10, %r12d                  # one may have been on its way: it has to be silent one time in ten
2:      mov fired, %ebp
        mov $6000, %edi
        call delay_us
        cmp fired, %ebp
        je 3f
        dec %r12d
        jnz 2b
3:      pop %r12
        cmp fired, %ebp
        fail_if ne, "it fired after it was stopped"
        ret

masked:
        mov $ONE_SHOT | LVT_MASKED, %edi
        mov $MS, %esi
        call arm
        mov $3000, %edi
        call delay_us
        call pending
        fail_if nz, "the interrupt is pending"
        cmpl $0, fired
        fail_if ne, "it fired"
        call count_left
        test %eax, %eax
        fail_if nz, "it did not count down"
        mov $ONE_SHOT, %edi
        call set_lvt
        mov $1000, %edi
        call delay_us
        movq $note_lost, note
        cmpl $0, fired
        je 1f
        movq $note_kept, note
1:      ret

# ZF = 0 if IRR has the vector
pending:
        mov $APIC_IRR + (VECTOR / 32) * 16, %edi
        call apic_read
        test $1 << (VECTOR % 32), %eax
        ret

halted_one_shot:
        mov $ONE_SHOT, %edi
        mov $2 * MS, %esi
        call arm
        call halt_until_fired
        call check_due
        fail_if c, "it was early"
        ret

halted_periodic:
        mov $PERIODIC, %edi
        mov $MS, %esi
        call arm
        mov $10, %ebp
1:      movl $0, fired
        call halt_until_fired
        dec %ebp
        jnz 1b
        ret

halt_until_fired:
1:      cli
        cmpl $0, fired
        jne 2f
        sti
        hlt
        jmp 1b
2:      sti
        ret

# arm_deadline(edi = nanoseconds from now)
arm_deadline:
        call ns_to_tsc
        mov %rax, %rdi
        read_tsc
        add %rax, %rdi
        mov %rdi, due
        jmp set_deadline

deadline:
        mov $DEADLINE, %edi
        call set_lvt
        mov $2 * MS, %edi
        call arm_deadline
        call get_deadline
        cmp due, %rax
        je 1f
        test %rax, %rax                 # it may have fired meanwhile, on a slow day
        fail_if nz, "the deadline reads back as something else"
1:      mov $1, %edi
        call wait_fired
        test %eax, %eax
        fail_if z, "it did not fire"
        call check_due
        fail_if c, "it was early"
        call get_deadline
        test %rax, %rax
        fail_if nz, "the deadline is not 0 afterwards"
        mov $4000, %edi
        call delay_us
        cmpl $1, fired
        fail_if ne, "it fired again"
        ret

deadline_past:
        mov $DEADLINE, %edi
        call set_lvt
        read_tsc
        mov %rax, due
        lea -1000(%rax), %rdi
        call set_deadline
        mov $1, %edi
        call wait_fired
        test %eax, %eax
        fail_if z, "it did not fire"
        call check_due
        fail_if c, "the TSC went backwards"
        mov $1000, %edi
        call delay_us
        cmpl $1, fired
        fail_if ne, "it fired again"
        ret

deadline_moved:
        mov $DEADLINE, %edi
        call set_lvt
        mov $20 * MS, %edi              # far enough that a busy host does not let it pass before it moves
        call arm_deadline
        mov $23 * MS, %edi
        call arm_deadline
        mov $1, %edi
        call wait_fired
        test %eax, %eax
        fail_if z, "it did not fire"
        call check_due
        fail_if c, "it fired at the first deadline"
        ret

deadline_cancelled:
        mov $DEADLINE, %edi
        call set_lvt
1:      movl $0, fired
        mov $20 * MS, %edi
        call arm_deadline
        xor %edi, %edi
        call set_deadline
        read_tsc
        cmp due, %rax
        jae 1b
        mov $30000, %edi
        call delay_us
        cmpl $0, fired
        fail_if ne, "it fired"
        ret

halted_deadline:
        mov $DEADLINE, %edi
        call set_lvt
        mov $2 * MS, %edi
        call arm_deadline
        call halt_until_fired
        call check_due
        fail_if c, "it was early"
        ret

# Entering or leaving TSC-deadline mode disarms the timer (SDM vol. 3A 11.5.4.1).
switch_to_deadline:
1:      movl $0, fired
        mov $ONE_SHOT, %edi
        mov $20 * MS, %esi
        call arm
        mov $DEADLINE, %edi
        call set_lvt
        read_tsc
        cmp due, %rax
        jae 1b
        call count_left
        test %eax, %eax
        fail_if nz, "the current count is not 0 in TSC-deadline mode"
        mov $30000, %edi
        call delay_us
        cmpl $0, fired
        fail_if ne, "it fired"
        ret

switch_from_deadline:
1:      movl $0, fired
        mov $DEADLINE, %edi
        call set_lvt
        mov $20 * MS, %edi
        call arm_deadline
        mov $ONE_SHOT, %edi
        call set_lvt
        read_tsc
        cmp due, %rax
        jae 1b
        call get_deadline
        test %rax, %rax
        fail_if nz, "the deadline still reads back"
        mov $30000, %edi
        call delay_us
        cmpl $0, fired
        fail_if ne, "it fired"
        ret

# A deadline counts in TSC-deadline mode only, an initial count in the other modes only.
other_register:
        mov $ONE_SHOT, %edi
        call set_lvt
        read_tsc
        lea 1000(%rax), %rdi
        call set_deadline
        mov $DEADLINE, %edi
        call set_lvt
        mov $10000, %edi
        call count_down
        mov $3000, %edi
        call delay_us
        cmpl $0, fired
        fail_if ne, "it fired"
        ret

        .section .rodata
xapic:  .asciz "xapic"
x2apic: .asciz "x2apic"
note_lost: .asciz " unmasked=silent"
note_kept: .asciz " unmasked=fires"

        .macro case name, code, needs_deadline=0
        .pushsection .rodata
        77776: .asciz "\name"
        .popsection
        .quad 77776b, \code, \needs_deadline
        .endm

        .data
        .balign 8
cases:
        case "one-shot", one_shot
        case "one-shot halted", halted_one_shot
        case "dividers", dividers
        case "periodic", periodic
        case "periodic halted", halted_periodic
        case "masked", masked
        case "tsc-deadline", deadline, 1
        case "tsc-deadline halted", halted_deadline, 1
        case "tsc-deadline in the past", deadline_past, 1
        case "tsc-deadline moved", deadline_moved, 1
        case "tsc-deadline cancelled", deadline_cancelled, 1
        case "switch to tsc-deadline", switch_to_deadline, 1
        case "switch from tsc-deadline", switch_from_deadline, 1
        case "register of the other mode", other_register, 1
cases_end:

        .bss
        .balign 8
mode: .skip 8
case_stack: .skip 8
case_running: .skip 8
due: .skip 8                            # TSC before which it must not fire
fired_at: .skip 8                       # TSC when it last did
late: .skip 8                           # TSC ticks; -1 = not measured
note: .skip 8                           # text after the result, or 0
fired: .skip 4
has_deadline: .skip 4
failed: .skip 4                         # exit value
