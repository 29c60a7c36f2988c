/** Which instruction KVM gave up on, told from its bytes (SDM vol. 2). */
import { describe, expect, it } from 'vitest';
import { instructionAdvice } from '../../../src/machine/loop/instruction-advice.ts';

describe('advice about an instruction that KVM does not know', () => {
  it.each([
    ['lock cmpxchg16b (%rsi)', [0xf0, 0x48, 0x0f, 0xc7, 0x4d, 0x20, 0x74], '--cpu host,-cx16'],
    ['xrstor64 (%rdi)', [0x48, 0x0f, 0xae, 0x2f, 0x31, 0xc0], 'noxsave'],
    ['xsaveopt (%rdi)', [0x0f, 0xae, 0x37], 'noxsave'],
    ['xsavec64 (%rdi)', [0x48, 0x0f, 0xc7, 0x27], 'noxsave'],
    ['lfence', [0x0f, 0xae, 0xe8], 'by its name'],
    ['rdrand %eax', [0x0f, 0xc7, 0xf0], 'by its name'],
    ['prefixes only', [0x66, 0x66], 'by its name'],
    ['no bytes', [], 'by its name'],
  ])('%s', (_instruction, bytes, advice) => {
    expect(instructionAdvice(Uint8Array.from(bytes))).toContain(advice);
  });
});
