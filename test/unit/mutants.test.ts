/** The lists of mutants keep up with the source: each edit is of text that is there, in one place, and leaves a program. */
import { readFileSync } from 'node:fs';
import { transformSync } from 'esbuild';
import { expect, test } from 'vitest';
import { listsByDefault, PROTOCOLS } from '../mutants/lists.ts';
import { SEED } from '../mutants/loop.ts';
import { mutate } from '../mutants/mutant.ts';

test.each([...listsByDefault(SEED), ...PROTOCOLS].map((list) => [list.name, list] as const))('%s', (_name, list) => {
  expect(new Set(list.mutants.map(({ name }) => name)).size).toBe(list.mutants.length);
  for (const mutant of list.mutants) {
    const source = readFileSync(new URL(`../../${mutant.file}`, import.meta.url), 'utf8');
    const changed = mutate(source, mutant);
    expect(changed, mutant.name).not.toBe(source);
    expect(() => transformSync(changed, { loader: 'ts' }), mutant.name).not.toThrow();
  }
});
