# bench-start: starts every CPU that there is, says so, and ends when the host asks for it by typing a character.
#
# Output:     bench-start: online <CPUs>
# Exit value: 0; 4 without x2APIC where an APIC ID needs it

        .include "defs.inc"

function main
        call apic_has_x2apic
        test %eax, %eax
        jz 1f
        call apic_mode_x2apic
1:      call time_init
        call smp_init
        call smp_start
        mov cpu_count, %eax
        say_dec "bench-start: online ", %rax
        say "\n"
2:      mov $PORT_COM1 + 5, %edx        # polled, and rarely: nothing else is going on
        in %dx, %al
        test $1, %al
        jnz 3f
        mov $1000, %edi
        call delay_us
        jmp 2b
3:      xor %eax, %eax
        ret
