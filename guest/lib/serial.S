# Text on COM1, by polling: print, print_hex, print_hex32, print_dec. One CPU at a time may print.
#
# Line status is asked once for each FIFO's worth of characters (16 on a 16550A, 1 without FIFO), since each port
# access costs an exit.

        .include "defs.inc"

# 115200 8N1, FIFO on, no interrupts.
function serial_init
        mov $PORT_COM1 + 1, %edx        # interrupt enable
        xor %eax, %eax
        out %al, %dx
        mov $PORT_COM1 + 3, %edx        # line control: divisor latch
        mov $0x80, %al
        out %al, %dx
        mov $PORT_COM1, %edx
        mov $1, %al
        out %al, %dx
        mov $PORT_COM1 + 1, %edx
        xor %eax, %eax
        out %al, %dx
        mov $PORT_COM1 + 3, %edx        # 8N1
        mov $3, %al
        out %al, %dx
        mov $PORT_COM1 + 4, %edx        # modem control: not in loopback
        mov $3, %al
        out %al, %dx
        mov $PORT_COM1 + 2, %edx        # FIFO control; reads back as identification, 0xc0 if there is a FIFO
        mov $7, %al
        out %al, %dx
        in %dx, %al
        and $0xc0, %al
        cmp $0xc0, %al
        mov $1, %ecx
        mov $16, %eax
        cmovne %ecx, %eax
        mov %eax, fifo_size
        movl $0, fifo_left
        ret

# print(rdi = zero-terminated string)
function print
        mov %rdi, %rsi
1:      movzbl (%rsi), %ecx
        test %ecx, %ecx
        jz 2f
        inc %rsi
        call put
        jmp 1b
2:      ret

# put(ecx = character). Clobbers rax, rdx only.
put:
        subl $1, fifo_left
        jns 2f
        mov $PORT_COM1 + 5, %edx
        mov $1000000, %eax
        mov %eax, fifo_left
1:      in %dx, %al
        test $0x20, %al                 # transmitter holding register empty
        jnz 3f
        decl fifo_left                  # a serial port that never gets ready loses text, not the guest
        jnz 1b
3:      mov fifo_size, %eax
        dec %eax
        mov %eax, fifo_left
2:      mov $PORT_COM1, %edx
        mov %ecx, %eax
        out %al, %dx
        ret

# print_hex(rdi = value): 0x and as few digits as it takes
function print_hex
        bsr %rdi, %rcx
        jnz 1f
        xor %ecx, %ecx
1:      shr $2, %ecx
        jmp hex_digits

# print_hex32(edi = value): 0x and 8 digits
function print_hex32
        mov $7, %ecx
hex_digits:                             # ecx = digits - 1
        lea 1(%rcx), %r8d
        shl $2, %ecx
        mov %ecx, %r9d
        mov $'0', %ecx
        call put
        mov $'x', %ecx
        call put
1:      mov %r9d, %ecx
        mov %rdi, %rax
        shr %cl, %rax
        and $15, %eax
        movzbl digits(%rax), %ecx
        call put
        sub $4, %r9d
        dec %r8d
        jnz 1b
        ret

# print_dec(rdi = value, unsigned)
function print_dec
        mov %rdi, %rax
        mov $10, %r8d
        xor %r9d, %r9d
1:      xor %edx, %edx
        div %r8
        push %rdx
        inc %r9d
        test %rax, %rax
        jnz 1b
2:      pop %rcx
        add $'0', %ecx
        call put
        dec %r9d
        jnz 2b
        ret

        .section .rodata
digits: .ascii "0123456789abcdef"

        .bss
        .balign 4
fifo_size: .skip 4
fifo_left: .skip 4
