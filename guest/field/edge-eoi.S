# One edge interrupt whose line stays high, while a level entry, whose line stays low, has the same vector: an EOI concerns
# level entries only (82093AA), so exactly one interrupt comes. Then a level entry is made edge while its interrupt is in
# service and its line high: one interrupt again.
# Prints both counts. Exit value: 0 if both are 1, else 1.

        .include "defs.inc"

        .set SHARED, 0x46
        .set CHANGED, 0x47
        .set LEVEL, 0x8000
        .set LINES, 0x2000              # pc-testdev: port of interrupt line 0
        .set IOAPIC, 0xfec00000

        .macro entry pin, value
        movl $0x10 + 2 * \pin, (%rbx)
        movl $\value, 0x10(%rbx)
        .endm

        .macro raise pin
        mov $LINES + \pin, %edx
        mov $1, %al
        out %al, %dx
        .endm

function main
        on_vector SHARED, shared_came
        on_vector CHANGED, changed_came
        mov $IOAPIC, %ebx
        entry 5, SHARED | LEVEL
        entry 6, SHARED
        raise 6
        call take
        entry 7, CHANGED | LEVEL
        raise 7
        call take
        mov shared, %eax
        say_dec "edge: ", %rax
        mov changed, %eax
        say_dec ", level made edge: ", %rax
        say "\n"
        mov shared, %eax
        dec %eax
        mov changed, %ecx
        dec %ecx
        or %ecx, %eax
        setne %al
        movzbl %al, %eax
        ret

take:   sti
        mov $1000, %ecx
1:      in $0xed, %al                   # an exit each, so that interrupts are seen
        loop 1b
        cli
        ret

shared_came:
        incl shared
        jmp apic_eoi

changed_came:
        incl changed
        mov $IOAPIC, %eax
        movl $0x10 + 2 * 7, (%rax)
        movl $CHANGED, 0x10(%rax)       # now edge
        jmp apic_eoi

        .bss
shared: .skip 4
changed: .skip 4
