# A guest sets the MSRs of lib/reset-msrs.inc, resets the machine, and looks at them.
# To be run with a monitor that answers the reset by starting it again. Tells the two starts apart by a byte of CMOS RAM.
# Prints each that is not as it was at the first start. Exit value: 0 if none, else 1.

        .include "defs.inc"
        .include "reset-msrs.inc"

        .set CMOS, 0x70
        .set MARK_AT, 0x50
        .set MARK, 0x5a

function main
        mov $MARK_AT, %al
        out %al, $CMOS
        in $CMOS + 1, %al
        cmp $MARK, %al
        je again
        xor %ebx, %ebx
1:      mov msrs(, %rbx, 8), %ecx
        mov msrs + 4(, %rbx, 8), %eax
        xor %edx, %edx
        wrmsr
        inc %ebx
        cmp $MSRS, %ebx
        jb 1b
        mov $MARK_AT, %al
        out %al, $CMOS
        mov $MARK, %al
        out %al, $CMOS + 1
        mov $0xcf9, %edx                # hard reset
        mov $6, %al
        out %al, %dx
2:      hlt
        jmp 2b

again:  xor %ebx, %ebx
        xor %ebp, %ebp
1:      mov msrs(, %rbx, 8), %ecx
        rdmsr
        cmp msrs + 4(, %rbx, 8), %eax
        jne 2f
        call survived
2:      inc %ebx
        cmp $MSRS, %ebx
        jb 1b
        say "looked\n"
        mov %ebp, %eax
        ret
