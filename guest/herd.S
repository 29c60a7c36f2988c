# herd: starts every CPU there is, up to 4,096, and then has all of them do one thing. For machines with many CPUs.
#
# Output:     herd: cpus=1024 started-us=812345 called-us=123456
#             started: from the first INIT until the last CPU has arrived; called: a broadcast that each CPU wakes up
#             for, counts itself, and goes back to sleep
# Exit value: 0; 1 if the count is wrong; 3 if a CPU does not come within 10 s; 4 if there are IDs over 0xfe and no x2APIC

        .include "defs.inc"

function main
        call time_init
        call smp_init
        call smp_highest_id
        cmp $0xff, %eax
        jb 1f
        call apic_has_x2apic
        test %eax, %eax
        jz 9f
        call apic_mode_x2apic
1:      read_tsc
        mov %rax, %rbx
        call smp_start
        read_tsc
        sub %rbx, %rax
        mov %rax, %rbp
        read_tsc
        mov %rax, %rbx
        mov $count, %edi
        call smp_call
        read_tsc
        sub %rbx, %rax
        mov %rax, %rbx
        mov cpu_count, %eax
        say_dec "herd: cpus=", %rax
        mov %rbp, %rdi
        call us
        say_dec " started-us=", %rax
        mov %rbx, %rdi
        call us
        say_dec " called-us=", %rax
        say "\n"
        mov counted, %eax
        cmp cpu_count, %eax
        jne 8f
        xor %eax, %eax
        ret
8:      say_dec "herd: counted ", %rax
        say "\n"
        exit_with EXIT_FAILED
9:      say "herd: an APIC ID is over 0xfe, and CPUID does not offer x2APIC\n"
        exit_with EXIT_UNSUPPORTED

count:
        lock incl counted
        ret

# rdi = TSC ticks -> rax = microseconds
us:
        call tsc_to_ns
        xor %edx, %edx
        mov $1000, %ecx
        div %rcx
        ret

        .bss
        .balign 4
counted: .skip 4
