# RDMSR and WRMSR that may fault.

        .include "defs.inc"

# wrmsr_safe(ecx = MSR, edx:eax = value) -> eax = 0, or the vector of the exception
function wrmsr_safe
        fixup wrmsr, 1f
        xor %eax, %eax
1:      ret

# rdmsr_safe(ecx = MSR) -> edx:eax = value, r8d = 0; or 0 and r8d = the vector of the exception
function rdmsr_safe
        fixup rdmsr, 1f
        xor %r8d, %r8d
        ret
1:      mov %eax, %r8d
        xor %eax, %eax
        xor %edx, %edx
        ret
