import { expect, test } from 'vitest';
import { describeBiosCall } from '../../../src/cli/bios-call.ts';

test.each([
  [0x13, 0x0201, 'INT 0x13 (disk), AX 0x201;'],
  [0x15, 0xe820, 'INT 0x15 (system services), AX 0xe820;'],
  [0x60, 0, 'INT 0x60, AX 0x0;'],
  [6, 0, '#UD in real mode'],
])('vector %i with AX %i is named', (vector, ax, words) => {
  expect(describeBiosCall(vector, ax)).toContain(words);
});
