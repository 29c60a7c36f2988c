# Two VMs that stay for as long as the host runs: one whose vCPU has no APIC, one whose APIC is disabled in both ways. While they
# are there, the static keys of KVM and of the scheduler (preempt notifiers, vCPUs without an APIC, APICs disabled by hardware and
# by software) stay on, and the kernel does not patch its own code at each VM that comes and goes. It patches by an int3 that lasts
# a moment; a thread of QEMU that translates it in that moment can meet it later, too, which the kernel does not survive ("Oops:
# int3" in finish_task_switch). So it is started while the host has one CPU. Returns when they are there, and leaves a child.
        .equ    OPEN, 2
        .equ    IOCTL, 16
        .equ    PAUSE, 34
        .equ    FORK, 57
        .equ    EXIT, 60
        .equ    O_RDWR_CLOEXEC, 02000002
        .equ    KVM_CREATE_VM, 0xae01
        .equ    KVM_CREATE_VCPU, 0xae41
        .equ    KVM_ENABLE_CAP, 0x4068aea3
        .equ    KVM_CAP_SPLIT_IRQCHIP, 121
        .equ    KVM_SET_MSRS, 0x4008ae89
        .equ    IA32_APIC_BASE, 0x1b

        .macro  ioctl fd, request, argument
        mov     \fd, %edi
        mov     $\request, %esi
        mov     \argument, %rdx
        mov     $IOCTL, %eax
        syscall
        .endm

        .globl  _start
        .text
_start: mov     $OPEN, %eax
        lea     path(%rip), %rdi
        mov     $O_RDWR_CLOEXEC, %esi
        syscall
        mov     %eax, %ebx

        ioctl   %ebx, KVM_CREATE_VM, $0
        ioctl   %eax, KVM_CREATE_VCPU, $0

        ioctl   %ebx, KVM_CREATE_VM, $0
        mov     %eax, %ebp
        ioctl   %ebp, KVM_ENABLE_CAP, $split
        ioctl   %ebp, KVM_CREATE_VCPU, $0
        ioctl   %eax, KVM_SET_MSRS, $disabled

        mov     $FORK, %eax
        syscall
        test    %eax, %eax
        jz      wait
        xor     %edi, %edi
        mov     $EXIT, %eax
        syscall

wait:   mov     $PAUSE, %eax
        syscall
        jmp     wait

        .section .rodata
path:   .asciz  "/dev/kvm"
        .balign 8
split:  .long   KVM_CAP_SPLIT_IRQCHIP, 0        # struct kvm_enable_cap: cap, flags, args, pad
        .quad   24, 0, 0, 0
        .skip   64
disabled:
        .long   1, 0                            # struct kvm_msrs: nmsrs, pad; then index, reserved, data
        .long   IA32_APIC_BASE, 0
        .quad   0
