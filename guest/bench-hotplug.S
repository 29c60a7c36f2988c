# bench-hotplug: starts each CPU that is added, as soon as its event comes. The host ends the run.
#
# Output:     bench-hotplug: ready        then it waits halted for events

        .include "defs.inc"

        .set VECTOR_EVENT, 0x51
        .set PIN, 20                    # of the I/O APIC: CPU hotplug
        .set IOAPIC, 0xfec00000
        .set IOAPIC_LEVEL, 1 << 15
        .set COMMAND_EVENT, 0           # selects the next CPU that has an event
        .set COMMAND_ID, 3              # data: the CPU's APIC ID
        .set FLAG_INSERT, 2

function main
        call apic_mode_x2apic
        call time_init
        call smp_init
        on_vector VECTOR_EVENT, event
        mov $IOAPIC, %ebx
        movl $0x10 + 2 * PIN + 1, (%rbx)
        mov %gs:CPU_ID, %eax
        shl $24, %eax
        mov %eax, 0x10(%rbx)
        movl $0x10 + 2 * PIN, (%rbx)
        movl $VECTOR_EVENT | IOAPIC_LEVEL, 0x10(%rbx)
        say "bench-hotplug: ready\n"
1:      sti
        hlt
        jmp 1b

event:
        push %rbx
1:      mov $COMMAND_EVENT, %edi
        call cpus_command
        call cpus_flags
        test $FLAG_INSERT, %eax
        jz 2f
        call cpus_data                  # with this command: the selector
        mov %eax, %ebx
        mov $COMMAND_ID, %edi
        call cpus_command
        call cpus_data
        mov %eax, %edi
        mov %ebx, %esi
        mov %eax, %ebx
        call cpu_add
        mov $FLAG_INSERT, %edi
        call cpus_acknowledge
        mov %ebx, %edi
        call cpu_init_sipi
        jmp 1b
2:      pop %rbx
        jmp apic_eoi
