# An NMI that waits for the end of another's handler, on a CPU that executes HLT right after it: a pending NMI that nothing
# masks ends HLT (SDM vol. 2A, HLT), so both are taken.
# Prints the NMIs of each of ROUNDS rounds. Exit value: 0 if there were two in each, else 1; 4 with one CPU.

        .include "defs.inc"

        .set ROUNDS, 20
        .set PATIENCE, 5000000          # microseconds; a slow host needs them, a lost NMI never comes

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
        mov $ROUNDS, %ebx
2:      movl $0, nmis
        call send
        mov $1, %edi
        call wait_for                   # it is in its handler, which takes a while
        call send
        mov $2, %edi
        call wait_for
        mov nmis, %eax
        say_dec " ", %rax
        cmpl $2, nmis
        je 3f
        movl $EXIT_FAILED, failed
3:      dec %ebx
        jnz 2b
        say "\n"
        mov failed, %eax
        ret

send:   mov $1, %edi
        mov $ICR_NMI | ICR_ASSERT, %esi
        jmp apic_send

# edi = NMIs to wait for, up to PATIENCE
wait_for:
        push %rbx
        push %rbp
        mov %edi, %ebx
        mov $PATIENCE / 100, %ebp
1:      cmp %ebx, nmis
        jae 2f
        mov $100, %edi
        call delay_us
        dec %ebp
        jnz 1b
2:      pop %rbp
        pop %rbx
        ret

nmi_came:
        lock incl nmis
        mov $5000, %ecx
1:      pause
        dec %ecx
        jnz 1b
        ret

other:  call apic_init
        movl $1, halting
1:      hlt                             # interrupts are off
        jmp 1b

        .section .rodata
what:   .asciz "the other CPU to start"

        .bss
nmis:   .skip 4
halting: .skip 4
failed: .skip 4
