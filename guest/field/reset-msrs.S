# A guest sets MSRs that a hardware reset clears (SDM vol. 3A, table 10-1), resets the machine, and looks at them.
# To be run with a monitor that answers the reset by starting it again. Tells the two starts apart by a byte of CMOS RAM.
# Prints each that is not as it was at the first start. Exit value: 0 if none, else 1.

        .include "defs.inc"

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
        cmp $COUNT, %ebx
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
        mov $EXIT_FAILED, %ebp
        mov msrs(, %rbx, 8), %ecx
        say_hex "survived the reset: MSR ", %rcx
        say "\n"
2:      inc %ebx
        cmp $COUNT, %ebx
        jb 1b
        say "looked\n"
        mov %ebp, %eax
        ret

        .section .rodata
        .balign 8
msrs:   .long 0x200, 6                  # MTRRs: a base, its mask with V, fixed ranges
        .long 0x201, 0xfff00800
        .long 0x250, 0x06060606
        .long 0x26f, 0x06060606
        .long 0x174, 0x10               # SYSENTER
        .long 0x175, 0x1234
        .long 0x277, 0x06060606         # PAT
        .long 0xc0000081, 0x1234        # STAR
        .long 0xc0000084, 0x200         # FMASK
        .long 0xc0000102, 0x1234        # KERNEL_GS_BASE
        .set COUNT, (. - msrs) / 8
