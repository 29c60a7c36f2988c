# NMIs to a CPU that is just about to halt, after a delay that walks: each is taken, none only when the next one comes.
# Prints how many were not taken within two seconds. Exit value: 0 if none, else 1; 4 with one CPU.

        .include "defs.inc"

        .set ROUNDS, 500

function main
        call time_init
        call smp_init
        cmpl $2, cpu_count
        jae 1f
        exit_with EXIT_UNSUPPORTED
1:      on_vector 2, nmi_came
        movq $other, cpu_entry
        mov $1, %edi
        call cpu_init_sipi
        mov $halting, %edi
        mov $1, %esi
        mov $what, %edx
        call await
        mov $2000000000, %edi
        call ns_to_tsc
        mov %rax, %r15
        mov $ROUNDS, %ebp
2:      mov nmis, %r13d
        inc %r13d
        mov $1, %edi
        mov $ICR_NMI | ICR_ASSERT, %esi
        call apic_send
        read_tsc
        lea (%rax, %r15), %r14
3:      cmp %r13d, nmis
        jae 4f
        pause
        read_tsc
        cmp %r14, %rax
        jb 3b
        incl late
4:      mov %ebp, %ecx
        and $63, %ecx
        inc %ecx
5:      pause
        dec %ecx
        jnz 5b
        dec %ebp
        jnz 2b
        say_dec "late: ", late
        say_dec " of ", $ROUNDS
        say "\n"
        cmpl $0, late
        setne %al
        movzbl %al, %eax
        ret

nmi_came:
        lock incl nmis
        ret

other:  call apic_init
        movl $1, halting
1:      cli
        hlt
        jmp 1b

        .section .rodata
what:   .asciz "the other CPU to start"

        .bss
nmis:   .skip 4
late:   .skip 8
halting: .skip 4
