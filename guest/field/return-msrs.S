# A CPU that is hot-added sets the MSRs of lib/reset-msrs.inc, is given back, and comes once more: as if it were new.
# To be run with one CPU and a monitor that adds another at each "ready", and asks for it at "ready for removal".
# Prints each MSR that is not as it was when the CPU first came. Exit value: 0 if none, else 1; 3 if no event came.

        .include "defs.inc"
        .include "reset-msrs.inc"

        # Flags of the register block: read as they are, written to acknowledge
        .set FLAG_INSERT, 2
        .set FLAG_REMOVE, 4
        .set FLAG_EJECT, 8

function main
        call apic_mode_x2apic
        call time_init
        call smp_init
        say "ready\n"
        movq $spoil, cpu_entry
        call welcome
        say "ready for removal\n"
        mov $FLAG_REMOVE, %edi
        call await_event
        call cpus_acknowledge_event
        mov $FLAG_EJECT, %edi
        call cpus_acknowledge_event
        say "ready\n"
        movq $look, cpu_entry
        call welcome

        xor %ebx, %ebx
        xor %ebp, %ebp
1:      mov returned(, %rbx, 4), %eax
        cmp first(, %rbx, 4), %eax
        je 2f
        call survived
2:      inc %ebx
        cmp $MSRS, %ebx
        jb 1b
        say "looked\n"
        mov %ebp, %eax
        ret

# The CPU that comes next: starts it, and waits until it has done what cpu_entry says.
welcome:
        push %rbx
        mov $FLAG_INSERT, %edi
        call await_event
        call cpus_acknowledge_event
        mov $3, %edi
        call cpus_command               # its x2APIC ID
        call cpus_data
        mov %eax, %ebx
        mov %eax, %edi
        mov selector, %esi
        call cpu_add
        movl $0, done
        mov %ebx, %edi
        call cpu_init_sipi
        mov $done, %edi
        mov $1, %esi
        mov $the_cpu, %edx
        call await
        mov selector, %edi
        call cpus_select
        mov $1, %edi
        call cpus_command               # _OST: the event
        mov $1, %edi                    # insertion
        call cpus_set_data
        mov $2, %edi
        call cpus_command               # and its status
        xor %edi, %edi                  # done
        call cpus_set_data
        pop %rbx
        ret

# await_event(edi = flag) -> edi = flag: a CPU has it set. It is selected, and its number in `selector`. Looks every
# millisecond, for 30 s.
await_event:
        push %rbx
        push %rbp
        mov %edi, %ebx
        mov $30000, %ebp
1:      mov $1000, %edi
        call delay_us
        xor %edi, %edi
        call cpus_select
        xor %edi, %edi
        call cpus_command               # selects the next CPU with an event
        call cpus_flags
        test %ebx, %eax
        jnz 2f
        dec %ebp
        jnz 1b
        say "timeout: awaited a hotplug event\n"
        exit_with EXIT_TIMEOUT
2:      call cpus_data
        mov %eax, selector
        mov %ebx, %edi
        pop %rbp
        pop %rbx
        ret

# cpus_acknowledge_event(edi = flags to write), on the CPU of the event
cpus_acknowledge_event:
        push %rdi
        mov selector, %edi
        call cpus_select
        pop %rdi
        jmp cpus_acknowledge

# What the other CPU does, with interrupts off: notes the MSRs as they are, and spoils them.
spoil:  xor %ebx, %ebx
1:      mov msrs(, %rbx, 8), %ecx
        rdmsr
        mov %eax, first(, %rbx, 4)
        mov msrs + 4(, %rbx, 8), %eax
        xor %edx, %edx
        wrmsr
        inc %ebx
        cmp $MSRS, %ebx
        jb 1b
        jmp rest

look:   xor %ebx, %ebx
1:      mov msrs(, %rbx, 8), %ecx
        rdmsr
        mov %eax, returned(, %rbx, 4)
        inc %ebx
        cmp $MSRS, %ebx
        jb 1b
rest:   movl $1, done
1:      hlt
        jmp 1b

        .section .rodata
the_cpu: .asciz "the CPU that was added"

        .bss
        .balign 4
first:  .skip 4 * MSRS
returned: .skip 4 * MSRS
selector: .skip 4
done:   .skip 4
