/** Which instruction KVM gave up on, told from its bytes (SDM vol. 2). */
import { describe, expect, it } from 'vitest';
import { instructionAdvice } from '../../../src/machine/loop/instruction-advice.ts';

describe('advice about an instruction that KVM does not know', () => {
  it.each([
    ['lock cmpxchg16b (%rsi)', [0xf0, 0x48, 0x0f, 0xc7, 0x4d, 0x20, 0x74], 'from the guest: --cpu host,-cx16'],
    ['xrstor64 (%rdi)', [0x48, 0x0f, 0xae, 0x2f, 0x31, 0xc0], 'noxsave'],
    ['xsaveopt (%rdi)', [0x0f, 0xae, 0x37], 'noxsave'],
    ['xsavec64 (%rdi)', [0x48, 0x0f, 0xc7, 0x27], 'noxsave'],
    ['xsave (%rdi)', [0x0f, 0xae, 0x27], 'noxsave'],
    ['xrstors (%rdi)', [0x0f, 0xc7, 0x1f], 'noxsave'],
    ['lock cmpxchg16b (%r15), all of REX', [0xf0, 0x4f, 0x0f, 0xc7, 0x0f], 'from the guest: --cpu host,-cx16'],
    ['xsaves (%rdi)', [0x0f, 0xc7, 0x2f], 'noxsave'],
    ['fxrstor (%rdi): no CMPXCHG16B', [0x0f, 0xae, 0x0f], 'by its name'],
    ['fxsave (%rdi): no XSAVE', [0x0f, 0xae, 0x07], 'by its name'],
    ['clflush (%rdi): no XSAVE', [0x0f, 0xae, 0x3f], 'by its name'],
    ['vmptrld (%rdi): no XSAVE', [0x0f, 0xc7, 0x37], 'by its name'],
    ['lfence', [0x0f, 0xae, 0xe8], 'by its name'],
    ['fninit', [0xdb, 0xe3], 'without x87'],
    ['fld1', [0xd9, 0xe8], 'without x87'],
    ['fistp (%rax)', [0xdf, 0x38], 'without x87'],
    ['fadd (%rax)', [0xd8, 0x00], 'without x87'],
    ['wait', [0x9b], 'without x87'],
    ['movaps %xmm0, (%rsp)', [0x0f, 0x29, 0x04, 0x24], 'without x87'],
    ['movdqu (%rsi), %xmm0', [0xf3, 0x0f, 0x6f, 0x06], 'without x87'],
    ['pxor %xmm8, %xmm8', [0x66, 0x45, 0x0f, 0xef, 0xc0], 'without x87'],
    ['vmovdqu (%rsi), %ymm0', [0xc5, 0xfe, 0x6f, 0x06], 'without x87'],
    ['mov %eax, %cr0', [0x0f, 0x22, 0xc0], 'paging without PAE'],
    ['vmcall', [0x0f, 0x01, 0xc1], '-kvm_pv_ipi'],
    ['vmmcall', [0x0f, 0x01, 0xd9], '-kvm_pv_ipi'],
    ['vmlaunch', [0x0f, 0x01, 0xc2], 'by its name'],
    ['popcnt %eax, %eax', [0xf3, 0x0f, 0xb8, 0xc0], 'by its name'],
    ['rdrand %eax', [0x0f, 0xc7, 0xf0], 'by its name'],
    ['prefixes only', [0x66, 0x66], 'by its name'],
    ['no bytes', [], 'by its name'],
  ])('%s', (_instruction, bytes, advice) => {
    expect(instructionAdvice(Uint8Array.from(bytes))).toContain(advice);
  });

  // SDM vol. 2, table A-3: the rows of MMX and SSE among the two-byte opcodes.
  it.each([
    [0x10, 0x17],
    [0x28, 0x2f],
    [0x50, 0x7f],
    [0xc2, 0xc2],
    [0xc4, 0xc6],
    [0xd0, 0xff],
  ])('0f %x to 0f %x are MMX and SSE, their neighbours are not', (first, last) => {
    const isVector = (opcode: number): boolean => instructionAdvice(Uint8Array.of(0x0f, opcode, 0xc0)).includes('MMX');
    expect([first - 1, first, last, last + 1].map(isVector)).toEqual([false, true, true, false]);
  });
});
