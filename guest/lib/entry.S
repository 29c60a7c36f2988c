# From PVH's 32-bit entry to long mode on the boot CPU, then `main`.
#
# Xen's PVH boot: the ELF note XEN_ELFNOTE_PHYS32_ENTRY names the entry point, which gets protected mode, flat
# segments, paging off, interrupts off, EBX = hvm_start_info. apiary and QEMU's -kernel both start it that way.
# Page tables are static: the first 4 GiB, identity, in 2 MiB pages, uncached from 3 GiB up, where the APICs are.
# `cpu_setup` is what every CPU does on arriving in 64-bit code; lib/smp.S uses it for application processors.

        .include "defs.inc"

        .section .note.Xen, "a", @note
        .balign 4
        .long 4, 8, 18                  # name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .quad pvh_entry

        .text
        .code32
        .global pvh_entry
pvh_entry:
        cld
        mov %ebx, start_info
        mov $page_tables, %eax
        mov %eax, %cr3
        mov %cr4, %eax
        or $0x20, %eax                  # PAE
        mov %eax, %cr4
        mov $MSR_EFER, %ecx
        rdmsr
        or $0x100, %eax                 # LME
        wrmsr
        mov %cr0, %eax
        or $0x80000000, %eax            # PG
        mov %eax, %cr0
        lgdt boot_gdtr
        ljmp $SEL_CODE, $boot64

        .code64
boot64:
        mov $boot_cpu, %edi
        lea CPU_STACK_TOP(%rdi), %rsp
        call cpu_setup
        mov $0xff, %al                  # firmware may have left the PIC delivering on exception vectors
        out %al, $0x21
        out %al, $0xa1
        call serial_init
        call apic_init
        call main
        mov %eax, %edi

# exit(edi = exit value): ends the VM. Does not return, even where no debug exit device is.
function exit
        mov %edi, %eax
        mov $PORT_EXIT, %edx
        out %eax, %dx
1:      cli
        hlt
        jmp 1b

# cpu_setup(rdi = record, zeroed up to CPU_GDT but for what identifies the CPU): segments, TSS, IDT, GS.
# Runs on the record's own CPU, with its stack; may run again on the same record after an INIT. Leaves IF clear.
function cpu_setup
        mov %rdi, CPU_SELF(%rdi)
        # A GDT for each CPU, since LTR marks the TSS in it busy.
        movq $0, CPU_GDT(%rdi)
        mov boot_gdt + SEL_CODE, %rax
        mov %rax, CPU_GDT + SEL_CODE(%rdi)
        mov boot_gdt + SEL_DATA, %rax
        mov %rax, CPU_GDT + SEL_DATA(%rdi)
        lea CPU_TSS(%rdi), %eax
        mov %eax, %edx
        shl $16, %rax
        mov $0xffffff0000, %rcx
        and %rcx, %rax                  # base 23:0 at bit 16
        and $0xff000000, %edx
        shl $32, %rdx                   # base 31:24 at bit 56
        or %rdx, %rax
        mov $0x0000890000000000 + CPU_TSS_SIZE - 1, %rdx # present, available 64-bit TSS, limit
        or %rdx, %rax
        mov %rax, CPU_GDT + SEL_TSS(%rdi)
        movq $0, CPU_GDT + SEL_TSS + 8(%rdi)
        movw $CPU_GDT_SIZE - 1, CPU_GDTR(%rdi)
        lea CPU_GDT(%rdi), %rax
        mov %rax, CPU_GDTR + 2(%rdi)
        lea CPU_STACK_TOP(%rdi), %rax
        mov %rax, CPU_TSS + 4(%rdi)     # RSP0
        lea CPU_IST_TOP(%rdi), %rax
        mov %rax, CPU_TSS + 36(%rdi)    # IST1
        movw $CPU_TSS_SIZE, CPU_TSS + 102(%rdi) # no I/O bitmap
        lgdt CPU_GDTR(%rdi)
        mov $SEL_DATA, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov %eax, %fs
        mov %eax, %gs
        mov $SEL_TSS, %eax
        ltr %ax
        lidt idtr
        mov %rdi, %rax
        mov %rdi, %rdx
        shr $32, %rdx
        mov $MSR_GS_BASE, %ecx
        wrmsr
        ret

        .data
        .balign 16
        .global boot_gdt, boot_gdtr, page_tables, boot_cpu, start_info
boot_gdt:
        .quad 0
        .quad 0x00af9b000000ffff        # 64-bit code
        .quad 0x00cf93000000ffff        # data
boot_gdtr:
        .word . - boot_gdt - 1
        .quad boot_gdt

        .balign 4096
page_tables:                            # PML4
        .quad pdpt + 3
        .fill 511, 8, 0
pdpt:
        .quad directories + 3, directories + 0x1003, directories + 0x2003, directories + 0x3003
        .fill 508, 8, 0
directories:
        .set page, 0
        .rept 1536
        .quad page + 0x83               # present, writable, 2 MiB
        .set page, page + 0x200000
        .endr
        .rept 512
        .quad page + 0x9b               # and uncached
        .set page, page + 0x200000
        .endr

        .bss
        .balign 64
boot_cpu:
        .skip CPU_SIZE
start_info:                             # physical address of hvm_start_info
        .skip 4
