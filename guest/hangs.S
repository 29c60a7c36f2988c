# hangs: sleeps for ever, each time for another reason, so that a monitor can be asked why. The first letter of the
# command line (--kernel-args) chooses:
#
#   l  LVT: the timer runs out behind its mask            i  IF: the second CPU halts with interrupts off, 0x41 waits
#   t  TPR 0x50 holds back 0x41                           e  EOI: 0x51 of a level line is never ended
#   s  SIPI to 0x24, which is nobody                      d  the APIC is software-disabled, a self-IPI is dropped
#   a  0x123 is started by its full ID (gate off: lost)   o  0x23 is started, and its alias 0x123 takes it (gate on)
#   p  a TSC deadline in the past, entry masked           q  IRQ 5 is raised behind the mask of the PIC
#   n  nothing: sleeps between the ticks of a periodic timer, as a system that does not hang
#
# CPUs: l t e d p q n 1;  i s 0,0x23;  a 0,0x123;  o 0,0x123,0x23.  Prints "hangs: <letter>" and does not end by itself.

        .include "defs.inc"

        .set VECTOR, 0x41
        .set VECTOR_LEVEL, 0x51
        .set PORT_TEST_LINE, 0x2000     # pc-testdev: + GSI, the level of its own source
        .set GSI, 5
        .set IOAPIC, 0xfec00000
        .set IOAPIC_ENTRY, 0x10 + 2 * GSI
        .set ENTRY_LEVEL, 1 << 15
        .set LVT_EXTINT, 7 << 8
        .set ICR_SELF, 1 << 18
        .set COMMAND_LINE, 24           # offset in hvm_start_info

function main
        on_vector VECTOR, apic_eoi
        on_vector VECTOR_LEVEL, no_eoi
        mov start_info, %eax
        mov COMMAND_LINE(%rax), %rax
        movzbl (%rax), %ebx
        mov $cases, %edx
1:      mov (%rdx), %rax
        test %rax, %rax
        jz 9f
        cmp %rax, %rbx
        je 2f
        add $16, %rdx
        jmp 1b
2:      push 8(%rdx)
        mov %bl, letter
        say "hangs: "
        mov $letter, %edi
        call print
        say "\n"
        pop %rax
        call *%rax
sleep:  sti
        hlt
        jmp sleep
9:      say "hangs: say which, for example --kernel-args t\n"
        exit_with EXIT_UNSUPPORTED

no_eoi: ret

masked_timer:
        mov $APIC_LVTT, %edi
        mov $LVT_MASKED | VECTOR, %esi
        call apic_write
        mov $APIC_TMICT, %edi
        mov $1000, %esi
        jmp apic_write

past_deadline:
        mov $APIC_LVTT, %edi
        mov $LVTT_TSC_DEADLINE | LVT_MASKED | VECTOR, %esi
        call apic_write
        mfence                          # the entry before the deadline (SDM vol. 3A, TSC-deadline mode)
        mov $MSR_TSC_DEADLINE, %ecx
        mov $1, %eax
        xor %edx, %edx
        wrmsr
        ret

priority:
        mov $APIC_TPR, %edi
        mov $0x50, %esi
        call apic_write
self:   mov %gs:CPU_ID, %edi
        mov $ICR_FIXED | ICR_ASSERT | ICR_SELF | VECTOR, %esi
        jmp apic_send

disabled:
        mov $APIC_SVR, %edi
        mov $VECTOR_SPURIOUS, %esi
        call apic_write
        jmp self

level:  mov $IOAPIC_ENTRY, %edi
        mov $ENTRY_LEVEL | VECTOR_LEVEL, %esi
        call ioapic_write
        jmp raise

pic:    mov $APIC_LINT0, %edi
        mov $LVT_EXTINT, %esi
        call apic_write
raise:  mov $PORT_TEST_LINE + GSI, %edx
        mov $1, %eax
        out %al, %dx
        ret

# ioapic_write(edi = index, esi = value)
ioapic_write:
        mov $IOAPIC, %eax
        mov %edi, (%rax)
        mov %esi, 0x10(%rax)
        ret

nobody: mov $0x24, %edi
        jmp cpu_init_sipi

full_id:
        call smp_init
        call apic_mode_x2apic
        mov $0x123, %edi
        jmp cpu_init_sipi

alias:  call smp_init
        mov $0x23, %edi
        jmp cpu_init_sipi

interrupts_off:
        call smp_init
        movq $deaf, cpu_entry
        mov $0x23, %edi
        call cpu_init_sipi
1:      pause
        cmpl $0, online
        je 1b
        mov $0x23, %edi
        mov $ICR_FIXED | ICR_ASSERT | VECTOR, %esi
        jmp apic_send

deaf:   call smp_arrived
1:      cli
        hlt
        jmp 1b

ticks:  mov $APIC_LVTT, %edi
        mov $LVTT_PERIODIC | VECTOR, %esi
        call apic_write
        mov $APIC_TMICT, %edi
        mov $50000000, %esi
        jmp apic_write

        .data
        .balign 8
cases:  .quad 'l', masked_timer, 'i', interrupts_off, 't', priority, 'e', level, 's', nobody, 'd', disabled
        .quad 'a', full_id, 'o', alias, 'p', past_deadline, 'q', pic, 'n', ticks, 0
letter: .byte 0, 0
