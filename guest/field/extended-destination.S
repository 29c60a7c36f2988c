# Run with CPUs 0, 0x23 and 0x123, which end up in x2APIC mode. An I/O APIC entry for 0x23 has bit 49 set, which is bit 8 of
# the destination only where CPUID offers extended destinations (KVM_FEATURE_MSI_EXT_DEST_ID).
# Prints who took the interrupt. Exit value: 0 if it was 0x123 with the feature and 0x23 without, else 1.

        .include "defs.inc"

        .set VECTOR, 0x81
        .set PIN, 18
        .set IOAPIC, 0xfec00000
        .set LINES, 0x2000              # pc-testdev: port of interrupt line 0
        .set KVM_FEATURES, 0x40000001
        .set MSI_EXT_DEST_ID, 15
        .set PATIENCE_MS, 5000          # a slow host needs them

function main
        call time_init
        call smp_init
        on_vector VECTOR, taken
        call apic_mode_x2apic
        movq $sleep, cpu_entry
        mov $0x23, %edi
        call cpu_init_sipi
        mov $0x123, %edi
        call cpu_init_sipi
        mov $asleep, %edi
        mov $2, %esi
        mov $what, %edx
        call await
        mov $IOAPIC, %ebx
        movl $0x10 + 2 * PIN + 1, (%rbx)
        movl $0x23020000, 0x10(%rbx)    # entry bits 63:56 are 0x23, bit 49 is set
        movl $0x10 + 2 * PIN, (%rbx)
        movl $VECTOR, 0x10(%rbx)        # edge, physical, fixed
        mov $LINES + PIN, %edx
        mov $1, %al
        out %al, %dx
        mov $taker, %edi
        mov $1, %esi
        mov $PATIENCE_MS, %edx
        call await_for
        mov $KVM_FEATURES, %eax
        cpuid
        mov $0x23, %r12d
        bt $MSI_EXT_DEST_ID, %eax
        jnc 1f
        mov $0x123, %r12d
1:      mov taker, %eax
        say_hex "taken by ", %rax
        say "\n"
        xor %eax, %eax
        cmp %r12d, taker
        setne %al
        ret

taken:  mov %gs:CPU_ID, %eax
        mov %eax, taker
        jmp apic_eoi

sleep:  call apic_init
        call apic_mode_x2apic
        lock incl asleep
1:      sti
        hlt
        jmp 1b

        .section .rodata
what:   .asciz "the other CPUs to sleep"

        .bss
taker:  .skip 4
asleep: .skip 4
