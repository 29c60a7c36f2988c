# The interrupt descriptor table, the stubs behind it, and what happens with an exception that nobody expected:
# vector, error code, RIP and CR2 on the serial port, exit value EXIT_EXCEPTION.
#
# Every vector goes through its stub to `handlers[vector]`, called with rdi = vector, rsi = frame (FRAME_*), the
# caller-saved registers kept, interrupts off. A handler does its own EOI. Where each instruction counts,
# `set_gate` puts a guest's own code behind a vector instead.
# A fault at an instruction of the `fixup` macro continues at its landing, with the vector in eax.

        .include "defs.inc"

# Stubs of 16 bytes. The linker puts this section at 1 MiB, so that the IDT below is a constant.
        .set STUBS_BASE, 0x100000
        .section .stubs, "ax"
        .set vector, 0
        .rept 256
        .balign 16, 0xcc
        # Only these exceptions push an error code (SDM vol. 3A table 6-1).
        .if vector <> 8 && (vector < 10 || vector > 14) && vector <> 17 && vector <> 21
        push $0
        .endif
        push $vector
        jmp dispatch
        .set vector, vector + 1
        .endr

        .text
dispatch:
        push %rax
        push %rcx
        push %rdx
        push %rsi
        push %rdi
        push %r8
        push %r9
        push %r10
        push %r11
        mov 72(%rsp), %edi              # zero-extends: vectors over 0x7f were pushed as they are, 32 bits
        lea 72(%rsp), %rsi
        call *handlers(, %rdi, 8)
        pop %r11
        pop %r10
        pop %r9
        pop %r8
        pop %rdi
        pop %rsi
        pop %rdx
        pop %rcx
        pop %rax
        add $16, %rsp
        iretq

# set_gate(edi = vector, rsi = code): code runs straight from the vector, with nothing pushed but the CPU's frame.
function set_gate
        shl $4, %edi
        mov %si, idt(%rdi)
        shr $16, %rsi
        mov %si, idt + 6(%rdi)
        ret

# A spurious interrupt must not be EOIed (SDM vol. 3A 11.9).
spurious:
        ret

unexpected:
        mov %rsi, %r8
        cmp $32, %edi
        jae report
        mov FRAME_RIP(%rsi), %rcx
        mov $fixups_start, %edx
1:      cmp $fixups_end, %rdx
        jae report
        cmp %rcx, (%rdx)
        je 2f
        add $16, %rdx
        jmp 1b
2:      mov 8(%rdx), %rcx
        mov %rcx, FRAME_RIP(%rsi)
        mov %rdi, -8(%rsi)              # the saved rax
        ret

# Not reentrant: the first CPU here reports and ends the VM, any other one stops.
report:
        lock btsl $0, reporting
        jc 9f
        mov %r8, %rbx
        cmpq $32, FRAME_VECTOR(%rbx)
        jae 1f
        say "\nexception"
        jmp 2f
1:      say "\nunexpected interrupt"
2:      say_hex " vector=", FRAME_VECTOR(%rbx)
        say_hex " error=", FRAME_ERROR(%rbx)
        say_hex " rip=", FRAME_RIP(%rbx)
        say_hex " rflags=", FRAME_RFLAGS(%rbx)
        say_hex " rsp=", FRAME_RSP(%rbx)
        mov %cr2, %rax
        say_hex " cr2=", %rax
        mov %gs:CPU_ID, %eax
        say_hex " cpu=", %rax
        say "\n"
        exit_with EXIT_EXCEPTION
9:      cli
        hlt
        jmp 9b

        .data
        .balign 16
        .global idt, idtr, handlers
idt:
        .set vector, 0
        .rept 256
        .word (STUBS_BASE + 16 * vector) & 0xffff, SEL_CODE
        .byte (vector == 2 || vector == 8) & 1, 0x8e # IST 1 for NMI and double fault; present interrupt gate
        .word STUBS_BASE >> 16
        .quad 0
        .set vector, vector + 1
        .endr
idtr:
        .word . - idt - 1
        .quad idt

        .balign 8
handlers:
        .rept 255
        .quad unexpected
        .endr
        .quad spurious

        .bss
        .balign 4
reporting:
        .skip 4
