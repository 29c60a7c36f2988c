# The local APIC of the running CPU, in the mode that it is in: registers over MMIO (xAPIC) or MSRs (x2APIC).
# CPU_X2APIC of the CPU's record says which; apic_note, apic_init and apic_mode_* keep it true.
# SDM vol. 3A 11.4 (registers), 11.6.1 (ICR), 11.12 (x2APIC and its transitions).

        .include "defs.inc"

# Notes this CPU's ID and the mode that its APIC is in; changes nothing.
function apic_note
        push %rbx
        read_cpu_id
        pop %rbx
        mov %eax, %gs:CPU_ID
        mov $MSR_APIC_BASE, %ecx
        rdmsr
        shr $10, %eax
        and $1, %eax
        mov %eax, %gs:CPU_X2APIC
        ret

# Software-enables this CPU's APIC in whichever mode it is in, and notes that mode and the CPU's ID.
function apic_init
        call apic_note
        mov $APIC_SVR, %edi
        mov $SVR_ENABLE | VECTOR_SPURIOUS, %esi
        jmp apic_write

# apic_read(edi = register offset) -> eax
function apic_read
        cmpl $0, %gs:CPU_X2APIC
        jne 1f
        mov $APIC_DEFAULT_BASE, %eax
        mov (%rax, %rdi), %eax
        ret
1:      shr $4, %edi
        lea MSR_X2APIC(%rdi), %ecx
        rdmsr
        ret

# apic_write(edi = register offset, esi = value)
function apic_write
        cmpl $0, %gs:CPU_X2APIC
        jne 1f
        mov $APIC_DEFAULT_BASE, %eax
        mov %esi, (%rax, %rdi)
        ret
1:      shr $4, %edi
        lea MSR_X2APIC(%rdi), %ecx
        mov %esi, %eax
        xor %edx, %edx
        wrmsr
        ret

# Clobbers rax, rcx, rdx, rsi, rdi, as a handler may.
function apic_eoi
        mov $APIC_EOI, %edi
        xor %esi, %esi
        jmp apic_write

# apic_send(edi = destination, esi = ICR low half). In xAPIC mode a destination has 8 bits.
# What this CPU wrote before is visible to the CPU that gets the interrupt.
function apic_send
        cmpl $0, %gs:CPU_X2APIC
        jne 3f
        pushfq
        cli                             # a handler that sends as well would come between the halves
        mov $APIC_DEFAULT_BASE, %eax
        jmp 2f
1:      pause
2:      testl $ICR_BUSY, APIC_ICR(%rax)
        jnz 1b
        shl $24, %edi
        mov %edi, APIC_ICR2(%rax)
        mov %esi, APIC_ICR(%rax)
        popfq
        ret
3:      mfence                          # a WRMSR to an x2APIC register does not wait for stores (SDM 11.12.3)
        lfence
        mov $MSR_X2APIC + APIC_ICR / 16, %ecx
        mov %esi, %eax
        mov %edi, %edx
        wrmsr
        ret

# eax = 1 if CPUID offers x2APIC
function apic_has_x2apic
        push %rbx
        mov $1, %eax
        cpuid
        shr $21, %ecx
        and $1, %ecx
        mov %ecx, %eax
        pop %rbx
        ret

# xAPIC -> x2APIC: one legal step. A handler that came between mode and flag would write its EOI to a dead page.
function apic_mode_x2apic
        pushfq
        cli
        mov $MSR_APIC_BASE, %ecx
        rdmsr
        or $APIC_BASE_EXTD | APIC_BASE_ENABLE, %eax
        wrmsr
        movl $1, %gs:CPU_X2APIC
        popfq
        ret

# x2APIC -> disabled -> xAPIC: there is no direct way back, and disabling resets the APIC.
function apic_mode_xapic
        mov $MSR_APIC_BASE, %ecx
        rdmsr
        and $~(APIC_BASE_EXTD | APIC_BASE_ENABLE), %eax
        wrmsr
        or $APIC_BASE_ENABLE, %eax
        wrmsr
        jmp apic_init
