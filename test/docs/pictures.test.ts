/** README's pictures show what the code does. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { PICTURES, picture } from './pictures.ts';

test.each(PICTURES)('gate $gate: the picture is what the APICs do', ({ file, gate }) => {
  expect(readFileSync(file, 'utf8')).toBe(picture(gate));
});

test('gate off both APICs with 8-bit ID 0x23 take it, gate on one', () => {
  const arrows = (svg: string): number => svg.split('marker-end').length;
  expect(arrows(picture(false))).toBeGreaterThan(arrows(picture(true)));
});
