# More than one CPU: who there is, starting them, and having all of them run a function.
#
# CPUs are found through QEMU's CPU hotplug register block, which also names the absent ones. Each gets a record
# (CPU_*, defs.inc); record 0 is the boot CPU's. A CPU that starts learns from CPUID who it is, so any number may run
# the trampoline at once, and one that got another INIT comes back to its own record.

        .include "defs.inc"

        .set CPUS_MAX, 4096
        .set IDS_MAX, 4096
        .set TRAMPOLINE, 0x8000

        .set REG_SELECTOR, PORT_CPUS    # write; reads the upper half of the command's data
        .set REG_FLAGS, PORT_CPUS + 4
        .set REG_COMMAND, PORT_CPUS + 5
        .set REG_DATA, PORT_CPUS + 8

# Makes records of the boot CPU and of all others that are present, and sets up the trampoline.
function smp_init
        push %rbx
        push %rbp
        on_vector VECTOR_CALL, apic_eoi
        mov $trampoline, %esi
        mov $TRAMPOLINE, %edi
        mov $trampoline_end - trampoline, %ecx
        rep movsb
        movl $1, cpu_count
        movq $boot_cpu, cpu_list
        mov boot_cpu + CPU_ID, %eax
        cmp $IDS_MAX, %eax
        jae 9f
        movw $1, cpu_by_id(, %rax, 2)
        # How many there can be: command 0 reads back the selector, which reads 0 when it is out of range. Command 0
        # itself may move the selector to a CPU with an event.
        xor %edi, %edi
        call cpus_select
        xor %edi, %edi
        call cpus_command
        mov $REG_SELECTOR, %edx
        in %dx, %eax
        test %eax, %eax
        jnz 9f                          # no such register block (all ones)
        mov $1, %ebx
1:      mov %ebx, %edi
        call cpus_select
        call cpus_data
        cmp %ebx, %eax
        jne 2f
        inc %ebx
        cmp $IDS_MAX, %ebx
        jb 1b
2:      mov %ebx, cpus_possible
        xor %edi, %edi
        call cpus_select
        mov $3, %edi
        call cpus_command
        xor %ebx, %ebx
3:      mov %ebx, %edi
        call cpus_select
        call cpus_flags
        mov %eax, %ebp
        call cpus_data
        cmp %gs:CPU_ID, %eax
        jne 4f
        mov %ebx, %gs:CPU_SELECTOR
        jmp 5f
4:      and $3, %ebp
        cmp $1, %ebp                    # enabled, and not yet to be announced
        jne 5f
        mov %eax, %edi
        mov %ebx, %esi
        call cpu_add
5:      inc %ebx
        cmp cpus_possible, %ebx
        jb 3b
        xor %edi, %edi
        call cpus_select
9:      pop %rbp
        pop %rbx
        ret

# The registers of the block. cpus_select(edi = selector), cpus_command(edi), cpus_acknowledge(edi = flags to write),
# cpus_set_data(edi), cpus_flags -> eax, cpus_data -> eax. They clobber rax and rdx only.
function cpus_select
        mov $REG_SELECTOR, %edx
        mov %edi, %eax
        out %eax, %dx
        ret
function cpus_command
        mov $REG_COMMAND, %edx
        mov %edi, %eax
        out %al, %dx
        ret
function cpus_acknowledge
        mov $REG_FLAGS, %edx
        mov %edi, %eax
        out %al, %dx
        ret
function cpus_set_data
        mov $REG_DATA, %edx
        mov %edi, %eax
        out %eax, %dx
        ret
function cpus_flags
        mov $REG_FLAGS, %edx
        xor %eax, %eax
        in %dx, %al
        ret
function cpus_data
        mov $REG_DATA, %edx
        in %dx, %eax
        ret

# cpu_add(edi = x2APIC ID, esi = selector) -> rax = a new record, or the one that this ID has already, or 0
function cpu_add
        cmp $IDS_MAX, %edi
        jae 2f
        movzwl cpu_by_id(, %rdi, 2), %edx
        test %edx, %edx
        jnz 1f
        mov cpu_count, %edx
        cmp $CPUS_MAX, %edx
        jae 2f
        mov %edx, %eax
        dec %eax
        shl $12, %rax                   # CPU_SIZE
        add $image_end, %rax
        mov %rax, cpu_list(, %rdx, 8)
        xor %ecx, %ecx
3:      movq $0, (%rax, %rcx)
        add $8, %ecx
        cmp $CPU_GDT, %ecx
        jb 3b
        mov %edi, CPU_ID(%rax)
        mov %edx, CPU_INDEX(%rax)
        inc %edx
        mov %edx, cpu_count
        mov %dx, cpu_by_id(, %rdi, 2)
1:      mov cpu_list - 8(, %rdx, 8), %rax
        mov %esi, CPU_SELECTOR(%rax)
        ret
2:      xor %eax, %eax
        ret

# cpu_init_sipi(edi = x2APIC ID): INIT and the first start-up IPI, as one does since the 1990s, without the 10 ms
# between them that only chips before the P6 family needed.
function cpu_init_sipi
        push %rdi
        mov $ICR_INIT | ICR_ASSERT, %esi
        call apic_send
        pop %rdi
# cpu_sipi(edi = x2APIC ID)
function cpu_sipi
        mov $ICR_STARTUP | ICR_ASSERT | (TRAMPOLINE >> 12), %esi
        jmp apic_send

# Starts every CPU that has a record and waits for all. Leaves interrupts on. Where there is an ID that 8 bits do not
# hold, the boot CPU has to be in x2APIC mode. All INITs come before the first start-up IPI: an INIT also reaches CPUs in
# xAPIC mode whose ID has the same low byte, and one of them that had started would start, and be counted, twice.
function smp_start
        push %rbx
        mov $1, %ebx
1:      cmp cpu_count, %ebx
        jae 2f
        mov cpu_list(, %rbx, 8), %rax
        mov CPU_ID(%rax), %edi
        mov $ICR_INIT | ICR_ASSERT, %esi
        call apic_send
        inc %ebx
        jmp 1b
2:      mov $1, %ebx
6:      cmp cpu_count, %ebx
        jae 7f
        mov cpu_list(, %rbx, 8), %rax
        mov CPU_ID(%rax), %edi
        call cpu_sipi
        inc %ebx
        jmp 6b
7:      mov $200, %edi
        call delay_us
        mov $1, %ebx
3:      cmp cpu_count, %ebx
        jae 5f
        mov cpu_list(, %rbx, 8), %rax
        cmpl $0, CPU_STARTS(%rax)
        jne 4f
        mov CPU_ID(%rax), %edi
        call cpu_sipi
4:      inc %ebx
        jmp 3b
5:      mov $online, %edi
        mov cpu_count, %esi
        dec %esi
        mov $1f, %edx
        .pushsection .rodata
1:      .asciz "the other CPUs to start"
        .popsection
        pop %rbx
        jmp await

# eax = the highest x2APIC ID among the records
function smp_highest_id
        xor %eax, %eax
        xor %ecx, %ecx
1:      mov cpu_list(, %rcx, 8), %rdx
        cmp %eax, CPU_ID(%rdx)
        cmova CPU_ID(%rdx), %eax
        inc %ecx
        cmp cpu_count, %ecx
        jb 1b
        ret

# smp_call(rdi = function): every CPU calls it, the boot CPU too, and all have returned when this returns. They call it
# outside of interrupt handlers, with interrupts on; they wait for it halted.
function smp_call
        mov %rdi, call_function
        movl $0, call_done
        lock incl call_number
        incl %gs:CPU_CALLS
        cmpl $1, cpu_count
        je 1f
        xor %edi, %edi
        mov $ICR_FIXED | ICR_ASSERT | ICR_ALL_BUT_SELF | VECTOR_CALL, %esi
        call apic_send
1:      call *call_function
        mov $call_done, %edi
        mov cpu_count, %esi
        dec %esi
        mov $1f, %edx
        .pushsection .rodata
1:      .asciz "the other CPUs to finish"
        .popsection
        jmp await

# What the other CPUs do: sleep, until there is something to call. The last one to finish wakes the boot CPU.
function smp_serve
        call smp_arrived
1:      cli
        mov call_number, %eax
        cmp %gs:CPU_CALLS, %eax
        jne 2f
        sti
        hlt
        jmp 1b
2:      mov %eax, %gs:CPU_CALLS
        sti
        call *call_function
        mov $1, %eax
        lock xadd %eax, call_done
        add $2, %eax
        cmp cpu_count, %eax
        jne 1b
        mov boot_cpu + CPU_ID, %edi
        mov $ICR_FIXED | ICR_ASSERT | VECTOR_CALL, %esi
        call apic_send
        jmp 1b

# Software-enables the APIC and reports the CPU to smp_start. Not done before cpu_entry, for guests that want to see an
# APIC as INIT leaves it.
function smp_arrived
        call apic_init
        lock incl online
        ret

# Runs at TRAMPOLINE: real mode, CS = TRAMPOLINE / 16, IP = 0, everything else as INIT leaves it. Straight to long mode.
        .code16
trampoline:
        cli
        mov %cs, %ax
        mov %ax, %ds
        lgdtl trampoline_gdtr - trampoline
        mov $0x20, %eax                 # PAE
        mov %eax, %cr4
        mov $page_tables, %eax
        mov %eax, %cr3
        mov $MSR_EFER, %ecx
        rdmsr
        or $0x100, %eax                 # LME
        wrmsr
        mov $0x80000031, %eax           # PG, NE, ET, PE
        mov %eax, %cr0
        ljmpl $SEL_CODE, $arrive
trampoline_gdtr:
        .word 3 * 8 - 1
        .long boot_gdt
trampoline_end:

        .code64
arrive:
        read_cpu_id
        cmp $IDS_MAX, %eax
        jae 9f
        movzwl cpu_by_id(, %rax, 2), %eax
        test %eax, %eax
        jz 9f
        mov cpu_list - 8(, %rax, 8), %rbx
        lea CPU_STACK_TOP(%rbx), %rsp
        mov %rbx, %rdi
        call cpu_setup
        call apic_note
        mov call_number, %eax
        mov %eax, CPU_CALLS(%rbx)
        incl CPU_STARTS(%rbx)
        jmp *cpu_entry
9:      hlt                             # nobody that we know; interrupts are off
        jmp 9b

        .data
        .balign 8
        .global cpu_entry
cpu_entry: .quad smp_serve              # where a CPU goes after start, interrupts off; a guest may set its own

        .bss
        .balign 8
        .global cpu_list, cpu_by_id, cpu_count, cpus_possible, online
cpu_list: .skip 8 * CPUS_MAX            # records by index
call_function: .skip 8
cpu_by_id: .skip 2 * IDS_MAX            # index + 1, by x2APIC ID; 0 = none
cpu_count: .skip 4
cpus_possible: .skip 4                  # slots of the register block, 0 = there is no block
online: .skip 4                         # how often smp_arrived was called
call_number: .skip 4
call_done: .skip 4
