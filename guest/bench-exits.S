# bench-exits: what one exit costs, on one CPU. Each batch runs an operation COUNT times and prints the TSC cycles that
# took, so that the numbers mean the same under any monitor.
#
# Output:     bench <operation> <count> <TSC cycles>     once for each batch and operation
#             and lines of dots, which the operation `serial` writes
# Operations: cpuid pio-out pio-in pm-timer serial, and in xAPIC mode apic-read apic-write self-ipi, then where CPUID offers
#             x2APIC msr-read msr-write self-ipi-msr, and where it offers KVM's PV EOI self-ipi-pv-eoi. A self-IPI is ICR
#             write, interrupt, EOI, IRET; with PV EOI the EOI is a bit in memory, when the monitor has set it.
# Exit value: 0

        .include "defs.inc"

        .set BATCHES, 200               # most of them find a just-in-time compiler warm
        .set UNROLL, 10
        .set LOOPS, 10
        .set COUNT, UNROLL * LOOPS
        .set SCRATCH, PORT_COM1 + 7     # a register of a real device that does nothing but hold a byte
        .set PM_TIMER, 0x608            # where firmware and machine of QEMU's q35 put it
        .set VECTOR_SELF, 0x50
        .set APIC_SELF_IPI, 0x3f0
        .set ICR_SELF, 1 << 18
        .set CPUID_KVM, 0x40000000      # "KVMKVMKVM" in ebx, ecx, edx; features in eax of the next leaf
        .set KVM_SIGNATURE, 0x4b4d564b  # its first four letters
        .set KVM_FEATURE_PV_EOI, 6
        .set MSR_KVM_PV_EOI_EN, 0x4b564d04

# A function that does `body` COUNT times and returns the cycles. The body may clobber rax, rcx, rdx.
        .macro operation name:req, body:req
        function \name
        push %rbx
        push %rbp
        mov $LOOPS, %ebp
        read_tsc
        mov %rax, %r12
        .balign 16
77774:
        .rept UNROLL
        \body
        .endr
        dec %ebp
        jnz 77774b
        read_tsc
        sub %r12, %rax
        pop %rbp
        pop %rbx
        ret
        .endm

        .macro report name:req, code:req, count=COUNT
        call \code
        push %rax
        say "bench \name"
        say_dec " ", $\count
        pop %rax
        say_dec " ", %rax
        say "\n"
        .endm

        operation do_cpuid "xor %eax, %eax; cpuid"
        operation do_pio_out "mov $SCRATCH, %edx; out %al, %dx"
        operation do_pio_in "mov $SCRATCH, %edx; in %dx, %al"
        operation do_pm_timer "mov $PM_TIMER, %edx; in %dx, %eax"
        operation do_apic_read "mov APIC_SVR(%r15), %eax"
        operation do_apic_write "movl $0, APIC_TPR(%r15)"
        operation do_msr_read "mov $MSR_X2APIC + APIC_SVR / 16, %ecx; rdmsr"
        operation do_msr_write "mov $MSR_X2APIC + APIC_TPR / 16, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr"
        operation do_self_ipi "call self_ipi"
        operation do_self_ipi_msr "call self_ipi_msr"

# The handler counts, so that each interrupt is waited for: it may arrive an instruction or two late.
self_ipi:
        movl $0, taken
        movl $ICR_FIXED | ICR_ASSERT | ICR_SELF | VECTOR_SELF, APIC_ICR(%r15)
1:      cmpl $0, taken
        je 1b
        ret
self_ipi_came:
        movl $1, taken
        movl $0, APIC_EOI(%r15)
        iretq

self_ipi_msr:
        movl $0, taken
        mov $MSR_X2APIC + APIC_SELF_IPI / 16, %ecx
        mov $VECTOR_SELF, %eax
        xor %edx, %edx
        wrmsr
1:      cmpl $0, taken
        je 1b
        ret
self_ipi_pv_eoi_came:
        btrl $0, pv_eoi                 # set: nothing waits for this EOI, and clearing it is the EOI
        jnc self_ipi_msr_came
        movl $1, taken
        iretq
self_ipi_msr_came:
        movl $1, taken
        push %rax
        push %rcx
        push %rdx
        mov $MSR_X2APIC + APIC_EOI / 16, %ecx
        xor %eax, %eax
        xor %edx, %edx
        wrmsr
        pop %rdx
        pop %rcx
        pop %rax
        iretq

# Whole lines through the library: a status read for each FIFO's worth.
        .set SERIAL_LINES, 4
        .set SERIAL_BYTES, 65 * SERIAL_LINES
do_serial:
        push %rbp
        mov $SERIAL_LINES, %ebp
        read_tsc
        mov %rax, %r12
1:      say "................................................................\n"
        dec %ebp
        jnz 1b
        read_tsc
        sub %r12, %rax
        pop %rbp
        ret

function main
        mov $APIC_DEFAULT_BASE, %r15d
        sti
        mov $VECTOR_SELF, %edi
        mov $self_ipi_came, %esi
        call set_gate
        mov $BATCHES, %ebx
1:      report cpuid do_cpuid
        report pio-out do_pio_out
        report pio-in do_pio_in
        report pm-timer do_pm_timer
        report serial do_serial SERIAL_BYTES
        report apic-read do_apic_read
        report apic-write do_apic_write
        report self-ipi do_self_ipi
        dec %ebx
        jnz 1b

        call apic_has_x2apic
        test %eax, %eax
        jz 9f
        call apic_mode_x2apic
        mov $VECTOR_SELF, %edi
        mov $self_ipi_msr_came, %esi
        call set_gate
        mov $BATCHES, %ebx
2:      report msr-read do_msr_read
        report msr-write do_msr_write
        report self-ipi-msr do_self_ipi_msr
        dec %ebx
        jnz 2b

        mov $CPUID_KVM, %eax
        cpuid
        cmp $KVM_SIGNATURE, %ebx
        jne 9f
        mov $CPUID_KVM + 1, %eax
        cpuid
        bt $KVM_FEATURE_PV_EOI, %eax
        jnc 9f
        mov $MSR_KVM_PV_EOI_EN, %ecx
        mov $pv_eoi + 1, %eax           # bit 0: on
        xor %edx, %edx
        wrmsr
        mov $VECTOR_SELF, %edi
        mov $self_ipi_pv_eoi_came, %esi
        call set_gate
        mov $BATCHES, %ebx
3:      report self-ipi-pv-eoi do_self_ipi_msr
        dec %ebx
        jnz 3b
9:      xor %eax, %eax
        ret

        .bss
        .balign 4
taken:  .skip 4
pv_eoi: .skip 4
