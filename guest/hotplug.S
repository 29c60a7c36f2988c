# hotplug: the boot CPU, in x2APIC mode, sleeps until a CPU is added, starts it, and finds out which CPUs its interrupts
# reach; then it gives the CPU back, and takes it once more.
#
# The other CPUs start in xAPIC mode, with flat logical IDs (bit `index`). The event comes through I/O APIC pin 20.
# Output:
#   hotplug: ready cpus=0x0,0x23
#   hotplug: cpu id=0x123 xapic-id=0x23 started=1 restarted=-
#            restarted: CPUs that INIT and SIPI to the new one started over; after started=0, xapic-id is `-`
#   ipi phase=xapic dest=physical:0x00000123 took=0x123
#            phases: xapic (all but the boot CPU), x2apic (the new CPU too), all-x2apic
#            destinations: the new ID, its low 8 bits, 0xffffffff, 0xff; the new CPU's x2APIC and flat logical IDs
#            took: the CPUs that took it, `-` for none; 0x23*2 if twice
#   hotplug: ready for removal             then it sleeps up to 2 s, and says "no removal came" if so
#   hotplug: cpu id=0x123 ejected
#   hotplug: eject of 0x23 refused         nobody had asked to remove that one
#   hotplug: ready for return              likewise
#   hotplug: cpu id=0x123 …                and phase=return with one destination
# Who took an interrupt is not a matter of time: after it, a second one of lower priority goes to all, and each CPU
# answers that. A CPU that answered has taken the first one already, if it was to have it.
# Exit value: 0; 1 if the event came without its interrupt or an eject went wrong; 3 after 30 s without any event;
# 4 without x2APIC or the register block.

        .include "defs.inc"

        .set VECTOR_HANDSHAKE, 0x41
        .set VECTOR_EVENT, 0x51
        .set VECTOR_TEST, 0x61
        .set PIN, 20
        .set IOAPIC, 0xfec00000
        .set IOAPIC_LEVEL, 1 << 15

        # Flags of the register block: read as they are, written to acknowledge
        .set FLAG_ENABLED, 1
        .set FLAG_INSERT, 2
        .set FLAG_REMOVE, 4
        .set FLAG_EJECT, 8
        # _OST, as ACPI has it (6.3.5): events 1 device check, 3 eject request; status 0 done, 0x84 in progress
        .set OST_INSERTION, 1
        .set OST_EJECTION, 3
        .set OST_DONE, 0
        .set OST_IN_PROGRESS, 0x84

        # In the CPU's record
        .set CPU_ALIVE, CPU_USER        # dword: it takes part in handshakes
        .set CPU_TOOK, CPU_USER + 4     # dword: test interrupts
        .set CPU_ANSWERED, CPU_USER + 8 # dword: number of the last handshake
        .set CPU_ORDER, CPU_USER + 12   # dword: what to do at the next one
        .set CPU_SEEN_ID, CPU_USER + 16 # dword: its APIC ID register when it started
        .set CPU_HAD_STARTS, CPU_USER + 20 # dword: CPU_STARTS before somebody was started (boot CPU)
        .set ORDER_X2APIC, 1
        .set ORDER_STOP, 2
        .set ORDER_XAPIC, 3

function main
        call apic_has_x2apic
        test %eax, %eax
        jnz 1f
        say "hotplug: CPUID does not offer x2APIC\n"
        exit_with EXIT_UNSUPPORTED
1:      call apic_mode_x2apic
        call time_init
        call smp_init
        cmpl $0, cpus_possible
        jne 2f
        say "hotplug: there is no CPU hotplug register block at port 0xcd8\n"
        exit_with EXIT_UNSUPPORTED
2:      on_vector VECTOR_HANDSHAKE, handshake_came
        on_vector VECTOR_EVENT, event_came
        on_vector VECTOR_TEST, test_came
        movq $station, cpu_entry
        call smp_start
        xor %ecx, %ecx                  # where firmware ran, it may have left them in x2APIC mode
3:      mov cpu_list(, %rcx, 8), %rax
        movl $ORDER_XAPIC, CPU_ORDER(%rax)
        inc %ecx
        cmp cpu_count, %ecx
        jb 3b
        call handshake
        mov $0x10 + 2 * PIN + 1, %edi
        mov %gs:CPU_ID, %esi
        shl $24, %esi
        call ioapic_write
        mov $0x10 + 2 * PIN, %edi
        mov $VECTOR_EVENT | IOAPIC_LEVEL, %esi
        call ioapic_write
        say "hotplug: ready cpus="
        call say_cpus_alive

3:      mov $30000, %edi
        call sleep_until_event
        test %eax, %eax
        jnz 4f
        say "timeout: awaited a hotplug event\n"
        exit_with EXIT_TIMEOUT
4:      test $FLAG_INSERT, %eax
        jz refuse_removal
        call insert
        mov event_record, %rax
        mov %rax, newcomer
        mov CPU_ID(%rax), %eax
        mov %eax, new_id

        movq $phase_xapic, phase
        call all_destinations
        mov newcomer, %rax
        movl $ORDER_X2APIC, CPU_ORDER(%rax)
        call handshake
        movq $phase_x2apic, phase
        call all_destinations
        xor %ecx, %ecx
5:      mov cpu_list(, %rcx, 8), %rax
        movl $ORDER_X2APIC, CPU_ORDER(%rax)
        inc %ecx
        cmp cpu_count, %ecx
        jb 5b
        call handshake
        movq $phase_all, phase
        call all_destinations

        say "hotplug: ready for removal\n"
6:      mov $2000, %edi
        call sleep_until_event
        test %eax, %eax
        jnz 7f
        say "hotplug: no removal came\n"
        jmp done
7:      test $FLAG_INSERT, %eax
        jz 8f
        call insert                     # one more: it is started, and that is all
        jmp 6b
8:      call remove
        call eject_another

        say "hotplug: ready for return\n"
9:      mov $2000, %edi
        call sleep_until_event
        test %eax, %eax
        jnz 1f
        say "hotplug: no return came\n"
        jmp done
1:      test $FLAG_INSERT, %eax
        jnz 2f
        call remove
        jmp 9b
2:      call insert
        movq $phase_return, phase
        mov event_id, %edi
        xor %esi, %esi
        call test_destination
done:   mov failed, %eax
        ret

refuse_removal:
        say "hotplug: asked to remove a CPU before one was added\n"
        exit_with EXIT_FAILED

# ioapic_write(edi = register, esi = value)
ioapic_write:
        mov $IOAPIC, %eax
        mov %edi, (%rax)
        mov %esi, 0x10(%rax)
        ret

# The event: sleeping, finding the CPU -----------------------------------------------------------------------------

# Level-triggered, so the end of interrupt waits until the cause is gone: `insert` and `remove` do it. Until then the
# I/O APIC sends no other.
event_came:
        cmpl $0, %gs:CPU_INDEX          # with the gate off, a CPU whose ID has the same low byte takes it as well: not its
        jne apic_eoi                    # affair. It comes again until the line is down, so nobody may be awaited before
        movl $1, interrupted
        ret

event_over:
        cmpl $0, interrupted
        je 1f
        movl $0, interrupted
        jmp apic_eoi
1:      ret

# sleep_until_event(edi = milliseconds) -> eax = flags of a CPU with an event, 0 if none came. Sets event_selector,
# event_id. Four times a second it looks without an interrupt, and complains if it then finds an event.
sleep_until_event:
        push %rbx
        imul $1000000, %rdi, %rdi
        call ns_to_tsc
        mov %rax, %rbx
        read_tsc
        add %rax, %rbx
        mov $event, %edi
        mov $250000, %esi
        mov $3600, %edx
        call watchdog_on
1:      cli
        cmpl $0, interrupted
        jne 2f
        sti
        hlt
        cmpl $0, interrupted
        jne 2f
        call find_event
        test %eax, %eax
        jnz 3f
        read_tsc
        cmp %rbx, %rax
        jb 1b
        xor %ebx, %ebx
        jmp 5f
2:      sti
        call find_event
        mov %eax, %ebx
        test %eax, %eax
        jnz 5f
        say "hotplug: an interrupt, but no CPU has an event\n"
        movl $EXIT_FAILED, failed
        call event_over
        jmp 5f
3:      mov %eax, %ebx                  # it may be just on its way
        mov $interrupted, %edi
        mov $1, %esi
        mov $100, %edx
        call await_for
        test %eax, %eax
        jnz 5f
        say "hotplug: the event came without its interrupt\n"
        movl $EXIT_FAILED, failed
5:      call watchdog_off
        sti
        mov %ebx, %eax
        pop %rbx
        ret

# eax = flags (insert or remove set) of the first CPU with an event, else 0
find_event:
        push %rbx
        xor %edi, %edi
        call cpus_select
        xor %edi, %edi
        call cpus_command               # selects the next CPU with an event
        call cpus_flags
        and $FLAG_INSERT | FLAG_REMOVE, %eax
        mov %eax, %ebx
        jz 1f
        call cpus_data
        mov %eax, event_selector
        mov $3, %edi
        call cpus_command               # its architecture ID
        call cpus_data
        mov %eax, event_id
1:      mov %ebx, %eax
        pop %rbx
        ret

# report_ost(edi = event, esi = status), on the CPU of the event
report_ost:
        mov %edi, %r8d
        mov event_selector, %edi
        call cpus_select
        mov $1, %edi
        call cpus_command
        mov %r8d, %edi
        call cpus_set_data
        mov $2, %edi
        call cpus_command
        mov %esi, %edi
        jmp cpus_set_data

# Adding -------------------------------------------------------------------------------------------------------------

# The CPU of the event: starts it, then says how that went. Sets event_record.
insert:
        push %rbx
        push %rbp
        mov event_id, %edi
        mov event_selector, %esi
        call cpu_add
        test %rax, %rax
        jnz 1f
        say "hotplug: no room for that CPU\n"
        exit_with EXIT_FAILED
1:      mov %rax, %rbx
        mov %rax, event_record
        movl $0, CPU_ALIVE(%rbx)
        movl $0, CPU_ORDER(%rbx)        # it may never have come to carry out the last one
        call note_starts
        mov $FLAG_INSERT, %edi
        call cpus_acknowledge
        mov event_id, %edi
        call cpu_init_sipi
        call event_over
        sti
        mov $200, %edi
        call delay_us
        cmpl $0, CPU_ALIVE(%rbx)
        jne 2f
        mov event_id, %edi
        call cpu_sipi
2:      lea CPU_ALIVE(%rbx), %rdi
        mov $1, %esi
        mov $3000, %edx
        call await_for
        mov %eax, %ebp
        call handshake                  # a CPU that was started over is back after this, too
        mov event_id, %edi
        say_hex "hotplug: cpu id=", %rdi
        say " xapic-id="
        test %ebp, %ebp
        jz 3f
        mov CPU_SEEN_ID(%rbx), %edi
        call print_hex
        jmp 4f
3:      say "-"
4:      say_dec " started=", %rbp
        say " restarted="
        call say_restarted
        mov $OST_INSERTION, %edi
        mov $OST_DONE, %esi
        call report_ost
        pop %rbp
        pop %rbx
        ret

note_starts:
        xor %ecx, %ecx
1:      mov cpu_list(, %rcx, 8), %rax
        mov CPU_STARTS(%rax), %edx
        mov %edx, CPU_HAD_STARTS(%rax)
        inc %ecx
        cmp cpu_count, %ecx
        jb 1b
        ret

# The CPUs other than the event's that started since note_starts
say_restarted:
        call list_begin
        xor %ebx, %ebx
1:      mov cpu_list(, %rbx, 8), %rax
        cmp event_record, %rax
        je 2f
        mov CPU_STARTS(%rax), %edx
        cmp CPU_HAD_STARTS(%rax), %edx
        je 2f
        mov CPU_ID(%rax), %edi
        call list_item
2:      inc %ebx
        cmp cpu_count, %ebx
        jb 1b
        jmp list_end

# Removing -----------------------------------------------------------------------------------------------------------

# The CPU of the event: stops it, gives it back.
remove:
        push %rbx
        mov event_selector, %edi
        call cpus_select
        mov $FLAG_REMOVE, %edi
        call cpus_acknowledge
        call event_over
        mov event_id, %edi
        mov event_selector, %esi
        call cpu_add                    # its record
        mov %rax, %rbx
        test %rax, %rax
        jz 1f
        cmp $boot_cpu, %rax
        je 1f
        movl $ORDER_STOP, CPU_ORDER(%rbx)
        call handshake
1:      mov $OST_EJECTION, %edi
        mov $OST_IN_PROGRESS, %esi
        call report_ost
        mov event_selector, %edi
        call cpus_select
        mov $FLAG_EJECT, %edi
        call cpus_acknowledge
        call cpus_flags
        mov %eax, %ebx
        mov event_id, %edi
        say_hex "hotplug: cpu id=", %rdi
        and $(FLAG_ENABLED | FLAG_INSERT), %ebx
        cmp $FLAG_ENABLED, %ebx         # with an insert event it is back already: somebody was quick
        je 2f
        say " ejected\n"
        mov $OST_EJECTION, %edi
        mov $OST_DONE, %esi
        call report_ost
        pop %rbx
        ret
2:      say " NOT ejected\n"
        movl $EXIT_FAILED, failed
        pop %rbx
        ret

# A CPU that is in use and that nobody asked for must stay.
eject_another:
        push %rbx
        xor %ecx, %ecx
1:      inc %ecx
        cmp cpu_count, %ecx
        jae 9f
        mov cpu_list(, %rcx, 8), %rbx
        cmpl $0, CPU_ALIVE(%rbx)
        je 1b
        mov CPU_SELECTOR(%rbx), %edi
        call cpus_select
        mov $FLAG_EJECT, %edi
        call cpus_acknowledge
        mov CPU_ID(%rbx), %edi
        say_hex "hotplug: eject of ", %rdi
        call cpus_flags
        test $FLAG_ENABLED, %eax
        jz 2f
        say " refused\n"
        jmp 9f
2:      say " NOT refused\n"
        movl $0, CPU_ALIVE(%rbx)
        movl $EXIT_FAILED, failed
9:      pop %rbx
        ret

# Who takes what -----------------------------------------------------------------------------------------------------

all_destinations:
        mov new_id, %edi
        xor %esi, %esi
        call test_destination
        movzbl new_id, %edi
        xor %esi, %esi
        call test_destination
        mov $0xffffffff, %edi
        xor %esi, %esi
        call test_destination
        mov $0xff, %edi
        xor %esi, %esi
        call test_destination
        # In x2APIC mode: cluster of 16 in the upper half, bit in the lower
        mov new_id, %ecx
        mov %ecx, %edi
        shr $4, %edi
        shl $16, %edi
        and $15, %ecx
        mov $1, %eax
        shl %cl, %eax
        or %eax, %edi
        mov $ICR_LOGICAL, %esi
        call test_destination
        mov newcomer, %rax
        mov CPU_INDEX(%rax), %ecx
        call flat_bit
        mov %eax, %edi
        mov $ICR_LOGICAL, %esi

# test_destination(edi = destination, esi = 0 or ICR_LOGICAL): sends there, says who took it.
test_destination:
        push %rbx
        push %rbp
        mov %edi, %ebx
        mov %esi, %ebp
        or $ICR_FIXED | ICR_ASSERT | VECTOR_TEST, %esi
        call apic_send
        call handshake
        say "ipi phase="
        mov phase, %rdi
        call print
        test %ebp, %ebp
        jnz 1f
        say " dest=physical:"
        jmp 2f
1:      say " dest=logical:"
2:      mov %ebx, %edi
        call print_hex32
        say " took="
        call list_begin
        xor %ebx, %ebx
3:      mov cpu_list(, %rbx, 8), %rax
        mov CPU_TOOK(%rax), %ebp
        movl $0, CPU_TOOK(%rax)
        test %ebp, %ebp
        jz 4f
        mov CPU_ID(%rax), %edi
        call list_item
        cmp $1, %ebp
        je 4f
        say_dec "*", %rbp
4:      inc %ebx
        cmp cpu_count, %ebx
        jb 3b
        pop %rbp
        pop %rbx
        jmp list_end

test_came:
        incl %gs:CPU_TOOK
        jmp apic_eoi

# ecx = index -> eax = flat logical ID
flat_bit:
        and $7, %ecx
        mov $1, %eax
        shl %cl, %eax
        ret

# Has every other CPU that is alive take an interrupt of low priority, carry out its order, and answer. Sent anew ten
# times a second: an INIT that is still on its way wipes out what was pending.
handshake:
        push %rbx
        push %rbp
        movl $0, answers
        xor %ecx, %ecx
        mov $1, %ebx
1:      cmp cpu_count, %ebx
        jae 2f
        mov cpu_list(, %rbx, 8), %rax
        add CPU_ALIVE(%rax), %ecx
        inc %ebx
        jmp 1b
2:      mov %ecx, answers_due
        lock incl handshakes
        mov $50, %ebp                   # 5 s
3:      xor %edi, %edi
        mov $ICR_FIXED | ICR_ASSERT | ICR_ALL_BUT_SELF | VECTOR_HANDSHAKE, %esi
        call apic_send
        mov $answers, %edi
        mov answers_due, %esi
        mov $100, %edx
        call await_for
        test %eax, %eax
        jnz 4f
        dec %ebp
        jnz 3b
        say "timeout: awaited a handshake, of"
        call list_begin
        say " "
        call say_silent
        exit_with EXIT_TIMEOUT
4:      pop %rbp
        pop %rbx
        ret

handshake_came:
        mov handshakes, %eax
        xchg %eax, %gs:CPU_ANSWERED
        cmp %eax, handshakes
        je apic_eoi                     # sent anew, and answered before
        xor %eax, %eax
        xchg %eax, %gs:CPU_ORDER
        push %rax
        call apic_eoi
        cmpl $ORDER_X2APIC, (%rsp)
        jne 1f
        cmpl $0, %gs:CPU_X2APIC
        jne 1f
        call apic_mode_x2apic
1:      cmpl $ORDER_XAPIC, (%rsp)
        jne 1f
        cmpl $0, %gs:CPU_X2APIC
        je 1f
        call apic_mode_xapic
        call identify
1:      cmpl $ORDER_STOP, (%rsp)
        jne 2f
        movl $0, %gs:CPU_ALIVE
2:      mov $1, %eax
        lock xadd %eax, answers
        inc %eax
        cmp answers_due, %eax
        jne 3f
        mov boot_cpu + CPU_ID, %edi
        mov $ICR_FIXED | ICR_ASSERT | VECTOR_CALL, %esi
        call apic_send                  # wakes the boot CPU
3:      pop %rax
        cmp $ORDER_STOP, %eax
        je 4f
        ret
4:      cli
        hlt
        jmp 4b

# Where the other CPUs go after start.
station:
        call smp_arrived
        call identify
        movl $1, %gs:CPU_ALIVE
1:      sti
        hlt
        jmp 1b

# Notes the ID that the CPU sees; in xAPIC mode, sets a flat logical ID.
identify:
        mov $APIC_ID, %edi
        call apic_read
        cmpl $0, %gs:CPU_X2APIC
        jne 1f
        shr $24, %eax
        mov %eax, %gs:CPU_SEEN_ID
        mov $APIC_DFR, %edi
        mov $-1, %esi
        call apic_write
        mov %gs:CPU_INDEX, %ecx
        call flat_bit
        mov %eax, %esi
        shl $24, %esi
        mov $APIC_LDR, %edi
        jmp apic_write
1:      mov %eax, %gs:CPU_SEEN_ID
        ret

# Lists of IDs -------------------------------------------------------------------------------------------------------

list_begin:
        movl $0, listed
        ret
list_item:                              # edi = ID
        push %rdi
        cmpl $0, listed
        je 1f
        say ","
1:      incl listed
        pop %rdi
        jmp print_hex
list_end:
        cmpl $0, listed
        jne 1f
        say "-"
1:      say "\n"
        ret

say_cpus_alive:
        push %rbx
        call list_begin
        mov %gs:CPU_ID, %edi
        call list_item
        mov $1, %ebx
1:      cmp cpu_count, %ebx
        jae 2f
        mov cpu_list(, %rbx, 8), %rax
        inc %ebx
        cmpl $0, CPU_ALIVE(%rax)
        je 1b
        mov CPU_ID(%rax), %edi
        call list_item
        jmp 1b
2:      pop %rbx
        jmp list_end

say_silent:
        mov $1, %ebx
1:      cmp cpu_count, %ebx
        jae list_end
        mov cpu_list(, %rbx, 8), %rax
        inc %ebx
        cmpl $0, CPU_ALIVE(%rax)
        je 1b
        mov handshakes, %edx
        cmp %edx, CPU_ANSWERED(%rax)
        je 1b
        mov CPU_ID(%rax), %edi
        call list_item
        jmp 1b

        .section .rodata
event:  .asciz "a hotplug event"
phase_xapic: .asciz "xapic"
phase_x2apic: .asciz "x2apic"
phase_all: .asciz "all-x2apic"
phase_return: .asciz "return"

        .bss
        .balign 8
phase: .skip 8                          # its name
event_record: .skip 8                   # CPU record of the last insertion
newcomer: .skip 8                # of the first one
event_selector: .skip 4
event_id: .skip 4
new_id: .skip 4
interrupted: .skip 4                    # the event's interrupt is in service
handshakes: .skip 4                     # number of the current handshake
answers: .skip 4
answers_due: .skip 4
listed: .skip 4
failed: .skip 4                         # exit value
