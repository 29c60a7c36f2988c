# storm: every CPU sends interrupts to every other, and every one of them has to arrive exactly once.
#
# Three kinds, first in xAPIC mode (if no ID is over 0xfe), then in x2APIC mode (if CPUID offers it):
#   dest=physical    fixed interrupts to the target's APIC ID
#   dest=logical     to its logical ID: flat up to 8 CPUs, cluster up to 60; in x2APIC mode the cluster ID
#   dest=broadcast   one by one, each CPU sends to all but itself by shorthand
# A sender works through its targets in turn, asleep until the target's answer, an interrupt as well, has come. The
# vector is the distance from sender to target, so no two senders ever use the same vector on the same target and
# nothing may coalesce. Over 161 CPUs each one sends to the next 160 only.
#
# Output, for each kind:   storm mode=xapic dest=physical cpus=4 rounds=83 sent=996 received=996 answers=996 ok
#            or            storm mode=xapic skipped: <why>
#            and for each CPU that differs:   storm: cpu 0x2 received=… sum=… answers=… expected …
# `sum` adds up the distances, so that an interrupt from the wrong sender shows.
# Exit value: 0 if all counts match; 1 if one does not; 3 if something never came; 4 if there is only one CPU.

        .include "defs.inc"

        .set VECTOR_ANSWER, 0x30
        .set VECTOR_BROADCAST, 0x31
        .set VECTOR_TOKEN, 0x32         # only wakes
        .set VECTOR_FIRST, 0x40         # from distance 1; distance d uses VECTOR_FIRST + d - 1
        .set DISTANCES, 0xa0
        .set WORK, 1000                 # about as many interrupts in a pass, over all CPUs

        # In the CPU's record. Only its own CPU writes them.
        .set CPU_DEST, CPU_USER         # dword: what others put into the ICR to reach it
        .set CPU_SENT, CPU_USER + 4
        .set CPU_RECEIVED, CPU_USER + 8
        .set CPU_SUM, CPU_USER + 12
        .set CPU_ANSWERS, CPU_USER + 16

function main
        call time_init
        call smp_init
        mov cpu_count, %eax
        cmp $2, %eax
        jae 1f
        say "storm: this needs two CPUs\n"
        exit_with EXIT_UNSUPPORTED

        # Distances, and rounds so that CPUs * distances * rounds is about WORK.
1:      lea -1(%rax), %ecx
        mov $DISTANCES, %edx
        cmp %edx, %ecx
        cmova %edx, %ecx
        mov %ecx, distances
        imul %eax, %ecx
        call rounds_for
        mov %eax, rounds_directed
        mov cpu_count, %ecx
        mov %ecx, %eax
        dec %eax
        imul %eax, %ecx
        call rounds_for
        mov %eax, rounds_broadcast

        on_vector VECTOR_ANSWER, answered
        on_vector VECTOR_BROADCAST, heard
        on_vector VECTOR_TOKEN, apic_eoi
        xor %ecx, %ecx
2:      movq $requested, handlers + 8 * VECTOR_FIRST(, %rcx, 8)
        inc %ecx
        cmp distances, %ecx
        jb 2b

        movq $report_cpus, timeout_hook
        call apic_has_x2apic
        mov %eax, %ebx
        call smp_highest_id
        cmp $0xff, %eax
        jae 3f
        call smp_start
        movq $xapic, mode
        mov $dest_physical, %edi
        call directed_physical
        cmpl $60, cpu_count
        ja 4f
        mov $dest_logical_xapic, %edi
        call directed_logical
        jmp 5f
4:      say "storm mode=xapic dest=logical skipped: more than 60 CPUs\n"
5:      call broadcast
        test %ebx, %ebx
        jz 8f
        jmp 6f

3:      say "storm mode=xapic skipped: an APIC ID is over 0xfe\n"
        test %ebx, %ebx
        jz 8f
        call apic_mode_x2apic
        call smp_start
6:      mov $to_x2apic, %edi
        call smp_call
        movq $x2apic, mode
        mov $dest_physical, %edi
        call directed_physical
        mov $dest_logical_x2apic, %edi
        call directed_logical
        call broadcast
        jmp 9f
8:      say "storm mode=x2apic skipped: CPUID does not offer it\n"
9:      mov failed, %eax
        ret

# ecx = interrupts a round -> eax = rounds, at least 1
rounds_for:
        mov $WORK, %eax
        xor %edx, %edx
        div %ecx
        cmp $1, %eax
        adc $0, %eax
        ret

to_x2apic:
        cmpl $0, %gs:CPU_X2APIC
        je apic_mode_x2apic
        ret

# How the running CPU is addressed. Each sets up its own APIC for it.
dest_physical:
        mov %gs:CPU_ID, %eax
        mov %eax, %gs:CPU_DEST
        ret

# Flat: a bit for each CPU. Cluster: four CPUs to a cluster, 15 clusters (15 itself is broadcast).
dest_logical_xapic:
        push %rbx
        mov %gs:CPU_INDEX, %ecx
        mov $-1, %esi                   # DFR: flat
        mov $1, %ebx
        cmpl $8, cpu_count
        jbe 1f
        mov $0x0fffffff, %esi           # DFR: cluster
        mov %ecx, %edx
        shr $2, %edx
        shl $4, %edx
        and $3, %ecx
        shl %cl, %ebx
        or %edx, %ebx
        jmp 2f
1:      shl %cl, %ebx
2:      mov $APIC_DFR, %edi
        call apic_write
        mov %ebx, %esi
        shl $24, %esi
        mov $APIC_LDR, %edi
        call apic_write
        mov %ebx, %gs:CPU_DEST
        pop %rbx
        ret

dest_logical_x2apic:                    # read-only: cluster in 31:16, bit in 15:0
        mov $APIC_LDR, %edi
        call apic_read
        mov %eax, %gs:CPU_DEST
        ret

# A pass with directed interrupts. edi = function that makes each CPU addressable
directed_physical:
        movq $physical, kind
        movl $ICR_FIXED | ICR_ASSERT, icr
        jmp 1f
directed_logical:
        movq $logical, kind
        movl $ICR_FIXED | ICR_ASSERT | ICR_LOGICAL, icr
1:      call smp_call
        mov rounds_directed, %eax
        mov %eax, rounds
        mov $send_to_each, %edi
        mov distances, %eax
        imul rounds, %eax               # each CPU's own expectations
        mov %eax, expected
        mov %eax, expected_answers
        mov distances, %ecx
        inc %ecx
        imul %ecx, %eax                 # rounds * d * (d + 1) / 2
        shr %eax
        mov %eax, expected_sum
        jmp pass

# A pass with broadcasts: every CPU hears all the others.
broadcast:
        movq $shorthand, kind
        mov rounds_broadcast, %eax
        mov %eax, rounds
        mov %eax, expected_answers
        mov cpu_count, %ecx
        dec %ecx
        imul %ecx, %eax
        mov %eax, expected
        movl $0, expected_sum
        movl $0, owner
        mov $send_to_all, %edi

# edi = what each CPU does. Then the books are compared, after one more call, so that an interrupt too many shows.
pass:
        push %rbx
        push %rbp
        push %r12
        push %r13
        mov %rdi, %rbx
        mov $clear, %edi
        call smp_call
        mov %rbx, part
        mov $take_part, %edi
        call smp_call
        mov $settle, %edi
        call smp_call
        say "storm mode="
        mov mode, %rdi
        call print
        say " dest="
        mov kind, %rdi
        call print
        mov cpu_count, %ebx
        say_dec " cpus=", %rbx
        mov rounds, %ebx
        say_dec " rounds=", %rbx
        xor %ebx, %ebx
        xor %ebp, %ebp                  # sent
        xor %r12d, %r12d                # received
        xor %r13d, %r13d                # answers
        movl $0, wrong
1:      mov cpu_list(, %rbx, 8), %rax
        mov CPU_SENT(%rax), %ecx
        add %rcx, %rbp
        mov CPU_RECEIVED(%rax), %ecx
        add %rcx, %r12
        mov CPU_ANSWERS(%rax), %edx
        add %rdx, %r13
        cmp expected, %ecx
        jne 2f
        cmp expected_answers, %edx
        jne 2f
        mov CPU_SUM(%rax), %ecx
        cmp expected_sum, %ecx
        je 3f
2:      movl $1, wrong
3:      inc %ebx
        cmp cpu_count, %ebx
        jb 1b
        say_dec " sent=", %rbp
        say_dec " received=", %r12
        say_dec " answers=", %r13
        cmpl $0, wrong
        jne 4f
        say " ok\n"
        jmp 5f
4:      say " WRONG\n"
        movl $EXIT_FAILED, failed
        call report_cpus
5:      pop %r13
        pop %r12
        pop %rbp
        pop %rbx
        ret

# A line for each CPU whose counts are not as expected.
report_cpus:
        push %rbx
        push %rbp
        xor %ebp, %ebp
1:      mov cpu_list(, %rbp, 8), %rbx
        mov CPU_RECEIVED(%rbx), %ecx
        cmp expected, %ecx
        jne 2f
        mov CPU_SUM(%rbx), %ecx
        cmp expected_sum, %ecx
        jne 2f
        mov CPU_ANSWERS(%rbx), %ecx
        cmp expected_answers, %ecx
        je 3f
2:      mov CPU_ID(%rbx), %eax
        say_hex "storm: cpu ", %rax
        mov CPU_RECEIVED(%rbx), %eax
        say_dec " received=", %rax
        mov CPU_SUM(%rbx), %eax
        say_dec " sum=", %rax
        mov CPU_ANSWERS(%rbx), %eax
        say_dec " answers=", %rax
        mov expected, %eax
        say_dec " expected received=", %rax
        mov expected_sum, %eax
        say_dec " sum=", %rax
        mov expected_answers, %eax
        say_dec " answers=", %rax
        say "\n"
3:      inc %ebp
        cmp cpu_count, %ebp
        jb 1b
        pop %rbp
        pop %rbx
        ret

clear:
        movl $0, %gs:CPU_SENT
        movl $0, %gs:CPU_RECEIVED
        movl $0, %gs:CPU_SUM
        movl $0, %gs:CPU_ANSWERS
settle: ret

# The boot CPU's watchdog bounds the pass for all.
take_part:
        cmpl $0, %gs:CPU_INDEX
        jne 1f
        mov $what, %edi
        mov $100000, %esi
        mov $30, %edx
        call watchdog_on
        call *part
        sti
        jmp watchdog_off
1:      jmp *part

send_to_each:
        push %rbx
        push %rbp
        mov rounds, %ebp
1:      xor %ebx, %ebx                  # distance - 1
2:      lea 1(%rbx), %eax
        add %gs:CPU_INDEX, %eax
        mov %eax, %ecx
        sub cpu_count, %ecx
        cmovae %ecx, %eax
        mov cpu_list(, %rax, 8), %rax
        mov CPU_DEST(%rax), %edi
        lea VECTOR_FIRST(%rbx), %esi
        or icr, %esi
        incl %gs:CPU_SENT
        call apic_send
        call sleep_until_answered
        inc %ebx
        cmp distances, %ebx
        jb 2b
        dec %ebp
        jnz 1b
        pop %rbp
        pop %rbx
        ret

# As many answers as interrupts (or broadcasts) sent
sleep_until_answered:
1:      cli
        mov %gs:CPU_SENT, %eax
        cmp %gs:CPU_ANSWERS, %eax
        jbe 2f
        sti
        hlt
        jmp 1b
2:      sti
        ret

# edi = vector
requested:
        lea 1 - VECTOR_FIRST(%rdi), %eax # distance
        incl %gs:CPU_RECEIVED
        add %eax, %gs:CPU_SUM
        mov %gs:CPU_INDEX, %edx
        sub %eax, %edx
        jae 1f
        add cpu_count, %edx
1:      mov cpu_list(, %rdx, 8), %rax
        mov CPU_DEST(%rax), %edi
        mov icr, %esi
        or $VECTOR_ANSWER, %esi
        call apic_send
        jmp apic_eoi

answered:
        incl %gs:CPU_ANSWERS
        jmp apic_eoi

# In turn: the owner sends, the last CPU that heard it answers, the token goes on.
send_to_all:
        push %rbx
        mov rounds, %ebx
1:      cli
        mov owner, %eax
        cmp %gs:CPU_INDEX, %eax
        je 2f
        sti
        hlt
        jmp 1b
2:      sti
        movl $0, heard_by
        incl %gs:CPU_SENT
        xor %edi, %edi
        mov $ICR_FIXED | ICR_ASSERT | ICR_ALL_BUT_SELF | VECTOR_BROADCAST, %esi
        call apic_send
        call sleep_until_answered
        mov %gs:CPU_INDEX, %ecx
        inc %ecx
        xor %eax, %eax
        cmp cpu_count, %ecx
        cmovae %eax, %ecx
        mov %ecx, owner
        mov cpu_list(, %rcx, 8), %rax
        mov CPU_ID(%rax), %edi
        mov $ICR_FIXED | ICR_ASSERT | VECTOR_TOKEN, %esi
        call apic_send
        dec %ebx
        jnz 1b
        pop %rbx
        ret

heard:
        incl %gs:CPU_RECEIVED
        mov $1, %eax
        lock xadd %eax, heard_by
        add $2, %eax
        cmp cpu_count, %eax
        jne apic_eoi
        mov owner, %eax
        mov cpu_list(, %rax, 8), %rax
        mov CPU_ID(%rax), %edi
        mov $ICR_FIXED | ICR_ASSERT | VECTOR_ANSWER, %esi
        call apic_send
        jmp apic_eoi

        .section .rodata
what:   .asciz "interrupts of the storm; the CPUs that still miss some:"
xapic:  .asciz "xapic"
x2apic: .asciz "x2apic"
physical: .asciz "physical"
logical: .asciz "logical"
shorthand: .asciz "broadcast"

        .bss
        .balign 8
mode: .skip 8                           # names of the pass
kind: .skip 8
part: .skip 8                           # what each CPU does in it
icr: .skip 4
distances: .skip 4                      # targets of each CPU
rounds_directed: .skip 4
rounds_broadcast: .skip 4
rounds: .skip 4
expected: .skip 4                       # of each CPU, in this pass
expected_sum: .skip 4
expected_answers: .skip 4
owner: .skip 4                          # index of the CPU whose turn it is to broadcast
heard_by: .skip 4
wrong: .skip 4
failed: .skip 4                         # exit value
