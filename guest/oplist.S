# oplist: carries out lists of operations that the monitor writes into its memory, each on the vCPU it is told to, and
# writes down results, faults and interrupts. The helper of `apiary conform`, layer 2; the same under either APIC.
#
# Little-endian, at fixed guest-physical addresses:
#
#   0x200000  header
#     +0   u32 sequence     monitor: changed last, when a new list is there. 0 at start
#     +4   u32 count        monitor: operations in it, up to 32,768; 0xffffffff ends the guest with exit value 0
#     +8   u32 finished     guest: sequence of the list that is done (written last)
#     +12  u32 cpus         guest: how many CPUs it has, set before the first doorbell; their order is that of the
#                           register block's slots, the boot CPU first
#     +16  u32 position     guest: operation that is next
#     +20  u32 entry        guest: where a monitor may start a CPU itself, see below
#     +24  u32 live         guest: operations of the list that is being carried out, 0 between lists
#   0x201000  operations, 16 bytes each
#     +0   u8  kind         see below
#     +1   u8  size         bytes of an MMIO access: 1, 2, 4, 8; flags of a window: 1 = handlers do not EOI
#     +2   u16 cpu          index of the CPU that does it
#     +4   u32 address      MMIO: guest-physical, any alignment; MSR number
#     +8   u64 value        what to write
#   0x300000  results, 16 bytes each, one for each operation
#     +0   u64 value        what was read
#     +8   u8  fault        vector of the exception it raised, 13 = #GP; 0 = none
#     +10  u16 interrupts   how many interrupts its CPU has recorded when it is over
#   0x400000  interrupts that each CPU took during the list, 4,096 bytes for each CPU index
#     +0   u32 count        may exceed the 511 entries that fit
#     +8   u32 vector, u32 position    in the order taken; 2 = NMI
#
# Kinds:   0 nothing          1 MMIO read     2 MMIO write     3 RDMSR     4 WRMSR     5 read CR8     6 write CR8
#          7 window           interrupts on, an exit to the monitor, off: takes all that is deliverable
#          8 halt             interrupts on, HLT until one has come, off. Something has to come, see below
#          9 read TSC        10 wait `value` TSC ticks, interrupts off       11 turn (below)
# Interrupts are off otherwise, on each CPU, so that they are taken at known places: what was sent by earlier
# operations and is deliverable is taken in the next window. A handler ends with an EOI (by MSR in x2APIC mode, else by
# MMIO at the page that IA32_APIC_BASE names) unless the window's flag says no. NMIs come at once.
#
# The dialogue: the guest writes `finished`, then 4 bytes to I/O port 0x0f10 (the doorbell; the value is `finished`),
# then waits for `sequence` to differ from `finished`. The monitor may write the next list while it handles the port
# write, or later. The first doorbell has value 0 and says that all CPUs are up. CPUs wait spinning, never in HLT, since
# nothing but their APIC could wake them: as many vCPUs as host cores is fastest.
# At the first doorbell the boot CPU's APIC is software-enabled, with its timer off; its mode is x2APIC if an ID is
# over 0xfe, else xAPIC. The others' APICs are as INIT and SIPI left them, but for the boot CPU, who started them. An
# INIT and a SIPI with vector 8 among the operations start a CPU over, which then goes on with the list.
#
# Without the dialogue: a monitor that runs one vCPU at a time may start every CPU at `entry`, with the boot CPU's system
# registers of the first doorbell, rdi = a record of its own (4 KiB, zero but for CPU_ID and CPU_INDEX), rsp = its end,
# interrupts off. It then writes lists, position and `live` itself. A CPU that has nothing to do says so by 4 bytes to
# I/O port 0x0f14 (the turn; the value is its index), over and over, which is when another one can be run.
#
# What cannot be bounded here is the monitor's to bound: a halt that nothing ends, a CPU that is not there.
# Exit value: 0 at the end of the dialogue; 2 for an exception outside an operation; 3 if a CPU does not start.

        .include "defs.inc"

        .set DOORBELL, 0xf10
        .set TURN, 0xf14
        .set HEADER, 0x200000
        .set HEADER_SEQUENCE, HEADER
        .set HEADER_COUNT, HEADER + 4
        .set HEADER_FINISHED, HEADER + 8
        .set HEADER_CPUS, HEADER + 12
        .set HEADER_POSITION, HEADER + 16
        .set HEADER_ENTRY, HEADER + 20
        .set HEADER_LIVE, HEADER + 24
        .set OPERATIONS, 0x201000
        .set OP_SIZE, 1
        .set OP_CPU, 2
        .set OP_ADDRESS, 4
        .set OP_VALUE, 8
        .set RESULTS, 0x300000
        .set RESULT_FAULT, 8
        .set RESULT_INTERRUPTS, 10
        .set LOGS, 0x400000
        .set LOG_SIZE, 4096
        .set LOG_ENTRIES, 511
        .set FLAG_NO_EOI, 1
        .set COUNT_END, 0xffffffff

        # In the CPU's record
        .set CPU_LOG, CPU_USER          # quad: its interrupt log
        .set CPU_FLAGS, CPU_USER + 8    # dword: flags of the window that is open

function main
        call time_init
        call smp_init
        mov cpu_count, %eax
        cmp $200, %eax                  # their records must end below the header
        jbe 1f
        say "oplist: at most 200 CPUs\n"
        exit_with EXIT_UNSUPPORTED
1:      mov %eax, HEADER_CPUS
        movl $0, HEADER_FINISHED
        mov $16, %ecx
2:      movq $interrupted, handlers(, %rcx, 8)
        inc %ecx
        cmp $256, %ecx
        jb 2b
        movq $interrupted, handlers + 8 * 2
        # Interrupts may come with vectors whose stubs expect an error code; the stub beside does not.
        mov $17, %edi
        mov $0x100000 + 16 * 18, %esi   # STUBS_BASE, lib/idt.S; as vector 18
        call set_gate
        mov $21, %edi
        mov $0x100000 + 16 * 22, %esi   # as vector 22
        call set_gate
        call smp_highest_id
        cmp $0xff, %eax
        jb 3f
        call apic_mode_x2apic
3:      call clear_logs
        movl $0, HEADER_POSITION
        movl $0, HEADER_LIVE
        movl $entry, HEADER_ENTRY

        # Start the others. Not smp_start: nobody's APIC timer, no interrupt.
        movq $others, cpu_entry
        mov $1, %ebx
4:      cmp cpu_count, %ebx
        jae 8f
        mov cpu_list(, %rbx, 8), %rbp
        mov CPU_ID(%rbp), %edi
        call cpu_init_sipi
        mov $200, %edi
        call delay_us
        cmpl $0, CPU_STARTS(%rbp)
        jne 5f
        mov CPU_ID(%rbp), %edi
        call cpu_sipi
5:      mov $10000, %r12d               # 10 s
6:      cmpl $0, CPU_STARTS(%rbp)
        jne 7f
        mov $1000, %edi
        call delay_us
        dec %r12d
        jnz 6b
        say "timeout: awaited the other CPUs to start\n"
        exit_with EXIT_TIMEOUT
7:      inc %ebx
        jmp 4b

8:      mov $APIC_LVTT, %edi            # as at reset
        mov $LVT_MASKED, %esi
        call apic_write
        mov $APIC_TDCR, %edi
        xor %esi, %esi
        call apic_write
        call own_log
        xor %ebx, %ebx                  # sequence of the list that is done

9:      mov %ebx, HEADER_FINISHED
        mov $DOORBELL, %edx
        mov %ebx, %eax
        out %eax, %dx
1:      pause
        cmp HEADER_SEQUENCE, %ebx
        je 1b
        mov HEADER_SEQUENCE, %ebx
        mov HEADER_COUNT, %eax
        cmp $COUNT_END, %eax
        je 2f
        call clear_logs
        mov HEADER_COUNT, %eax
        test %eax, %eax
        jz 9b
        movl $0, HEADER_POSITION
        mov %eax, HEADER_LIVE           # last: now the others look at the list
        call carry_out
        movl $0, HEADER_LIVE            # first: so that they do not, while the next one is written
        jmp 9b
2:      xor %eax, %eax
        ret

# A CPU that the monitor starts. rdi = its record
entry:
        call cpu_setup
# The other CPUs, after each start: whatever is left of the list, over and over.
others:
        call own_log
1:      call carry_out
        call turn
        jmp 1b

own_log:
        mov %gs:CPU_INDEX, %eax
        shl $12, %rax                   # LOG_SIZE
        add $LOGS, %rax
        mov %rax, %gs:CPU_LOG
        ret

clear_logs:
        mov $LOGS, %eax
        mov cpu_count, %ecx
1:      movl $0, (%rax)
        add $LOG_SIZE, %rax
        dec %ecx
        jnz 1b
        ret

# Does this CPU's operations in their turn, until the list is over.
carry_out:
        push %rbx
        push %rbp
1:      mov HEADER_LIVE, %eax           # before the position, which may be of the next list by then, but never older
        mov HEADER_POSITION, %ebp
        cmp %eax, %ebp
        jae 3f
        mov %ebp, %ebx
        shl $4, %rbx
        add $OPERATIONS, %rbx
        movzwl OP_CPU(%rbx), %eax
        cmp %gs:CPU_INDEX, %eax
        je 2f
        call turn
        jmp 1b
2:      movzbl (%rbx), %ecx
        cmp $KINDS, %ecx
        jae 4f
        xor %eax, %eax                  # what it reads
        xor %r8d, %r8d                  # fault
        mov OP_ADDRESS(%rbx), %edi
        mov OP_VALUE(%rbx), %rsi
        call *kinds(, %rcx, 8)
4:      mov %ebp, %edx
        shl $4, %rdx
        mov %rax, RESULTS(%rdx)
        mov %gs:CPU_LOG, %rcx
        mov (%rcx), %ecx
        shl $16, %ecx
        or %r8d, %ecx
        mov %ecx, RESULTS + RESULT_FAULT(%rdx)
        inc %ebp
        mov %ebp, HEADER_POSITION       # last: the next CPU may go on
        jmp 1b
3:      pop %rbp
        pop %rbx
        ret

# Not this CPU's.
turn:
        mov $TURN, %edx
        mov %gs:CPU_INDEX, %eax
        out %eax, %dx
        xor %eax, %eax
        xor %r8d, %r8d
        ret

# The kinds: rdi = address, rsi = value, rbx = operation -> rax = what was read, r8d = fault
nothing:
        ret

        .macro by_size one, two, four, eight
        mov OP_SIZE(%rbx), %cl
        cmp $1, %cl
        je 1f
        cmp $2, %cl
        je 2f
        cmp $8, %cl
        je 3f
        \four
        ret
1:      \one
        ret
2:      \two
        ret
3:      \eight
        ret
        .endm
mmio_read:
        by_size "movb (%rdi), %al", "movw (%rdi), %ax", "movl (%rdi), %eax", "movq (%rdi), %rax"
mmio_write:
        by_size "movb %sil, (%rdi)", "movw %si, (%rdi)", "movl %esi, (%rdi)", "movq %rsi, (%rdi)"

msr_read:
        mov %edi, %ecx
        call rdmsr_safe
        shl $32, %rdx
        or %rdx, %rax
        ret
msr_write:
        mov %edi, %ecx
        mov %esi, %eax
        mov %rsi, %rdx
        shr $32, %rdx
        mfence
        lfence
        call wrmsr_safe
        mov %eax, %r8d
        xor %eax, %eax
        ret

cr8_read:
        mov %cr8, %rax
        ret
cr8_write:
        fixup "mov %rsi, %cr8", 1f
        ret
1:      mov %eax, %r8d
        xor %eax, %eax
        ret

# The port reads are exits, so that what another CPU sent has been seen by the time interrupts come on, and that a KVM
# which interprets ring 0 in one go looks for the next interrupt.
window:
        movzbl OP_SIZE(%rbx), %eax
        mov %eax, %gs:CPU_FLAGS
        mov %gs:CPU_LOG, %rcx
        mov $DOORBELL, %edx
        in %dx, %eax
        sti
        nop
1:      mov (%rcx), %esi
        in %dx, %eax
        nop
        cmp (%rcx), %esi
        jne 1b
        cli
        xor %eax, %eax
        xor %r8d, %r8d
        ret

halt:
        movzbl OP_SIZE(%rbx), %eax
        mov %eax, %gs:CPU_FLAGS
        mov %gs:CPU_LOG, %rdx
        mov (%rdx), %ecx
1:      sti
        hlt
        cli
        cmp %ecx, (%rdx)
        je 1b
        xor %eax, %eax
        xor %r8d, %r8d
        ret

tsc_read:
        read_tsc
        ret

# A KVM that interprets ring 0 looks at its timers only after a thousand instructions or so: give it two thousand.
wait_ticks:
        read_tsc
        add %rax, %rsi
1:      pause
        read_tsc
        cmp %rsi, %rax
        jb 1b
        mov $1100, %eax
2:      dec %eax
        jnz 2b
        xor %eax, %eax
        xor %r8d, %r8d
        ret

# An interrupt, or an NMI. edi = vector
interrupted:
        mov %gs:CPU_LOG, %rdx
        mov (%rdx), %eax
        cmp $LOG_ENTRIES, %eax
        jae 1f
        mov %edi, 8(%rdx, %rax, 8)
        mov HEADER_POSITION, %ecx
        mov %ecx, 12(%rdx, %rax, 8)
1:      inc %eax
        mov %eax, (%rdx)
        cmp $2, %edi
        je 3f
        testl $FLAG_NO_EOI, %gs:CPU_FLAGS
        jnz 3f
        mov $MSR_APIC_BASE, %ecx
        rdmsr
        test $APIC_BASE_EXTD, %eax
        jz 2f
        mov $MSR_X2APIC + APIC_EOI / 16, %ecx
        xor %eax, %eax
        xor %edx, %edx
        wrmsr
        ret
2:      and $~0xfff, %eax
        movl $0, APIC_EOI(%rax)
3:      ret

        .data
        .balign 8
kinds:
        .quad nothing, mmio_read, mmio_write, msr_read, msr_write, cr8_read, cr8_write
        .quad window, halt, tsc_read, wait_ticks, turn
        .set KINDS, (. - kinds) / 8
