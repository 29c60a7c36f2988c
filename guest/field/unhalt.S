# ICR delivery mode 3 (in the SDM: reserved, once remote read) ends a HLT with interrupts off: KVM has it as its kick for
# paravirtual spinlocks. One message, one HLT; a message before the HLT ends it as well.
# Prints how often the other CPU left HLT: 1 after a message, 2 after one that came before the HLT.
# Exit value: 0 if so, else 1; 4 with one CPU.

        .include "defs.inc"

function main
        call time_init
        call smp_init
        cmpl $2, cpu_count
        jae 1f
        exit_with EXIT_UNSUPPORTED
1:      movq $other, cpu_entry
        mov $1, %edi
        call cpu_init_sipi
        mov $halting, %edi
        mov $1, %esi
        mov $what, %edx
        call await
        mov $50000, %edi
        call delay_us
        call send
        mov $50000, %edi
        call delay_us
        mov left, %ebx
        say_dec "left HLT: ", %rbx
        call send                       # while it waits for us
        movl $1, go_on
        mov $50000, %edi
        call delay_us
        mov left, %ebp
        say_dec ", then ", %rbp
        say "\n"
        xor $1, %ebx
        xor $2, %ebp
        or %ebx, %ebp
        setne %al
        movzbl %al, %eax
        ret

send:   mov $1, %edi
        mov $ICR_ASSERT | 3 << 8, %esi
        jmp apic_send

other:  call apic_init
        movl $1, halting
        cli
        hlt
        incl left
1:      pause
        cmpl $0, go_on
        je 1b
        hlt
        incl left
2:      hlt
        incl left
        jmp 2b

        .section .rodata
what:   .asciz "the other CPU to start"

        .bss
left:   .skip 4
go_on:  .skip 4
halting: .skip 4
