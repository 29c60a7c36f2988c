/** The recorded cases that the package ships: each kernel's model agrees with all of them, and no rule could be missing. */
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BEHAVIOURS, holds, RULE_NAMES } from '../../../src/apic/index.ts';
import { replayFrom, shipped } from '../../../src/cli/conform-recorded.ts';
import { layerOf } from '../../../src/conform/breaking.ts';
import { readRecording } from '../../../src/conform/recorded.ts';
import { replay } from '../../../src/conform/replay.ts';

const files = shipped();

describe.skipIf(files.length === 0)(
  `what the package ships${files.length === 0 ? ' (skipped: nothing yet)' : ''}`,
  () => {
    it('is under a megabyte', () => {
      expect(files.reduce((sum, file) => sum + statSync(file).size, 0)).toBeLessThan(1e6);
    });

    const recordings = files.map((path) => {
      const recording = readRecording(readFileSync(path));
      const behaviour = BEHAVIOURS.find((each) => each === recording.header.behaviour) ?? 'kvm';
      return { name: path.slice(path.lastIndexOf('/') + 1), recording, behaviour };
    });

    it.each(recordings)('$name: its model agrees with the kernel in all of it', ({ recording, behaviour }) => {
      const { failure, operations, coverage } = replay(recording, { behaviour });
      expect(failure?.join('\n')).toBeUndefined();
      expect(operations).toBeGreaterThan(3000);
      expect(coverage.missing.length).toBeLessThan(10);
    });

    const seen = RULE_NAMES.filter(
      (rule) => layerOf(rule) !== 3 && recordings.some(({ behaviour }) => holds(rule, behaviour)),
    );
    it.each(seen)('a model without %s agrees with not all of them', (rule) => {
      const differs = recordings.some(
        ({ recording, behaviour }) =>
          holds(rule, behaviour) && replay(recording, { behaviour, breakRules: [rule] }).failure !== undefined,
      );
      expect(differs).toBe(true);
    });
  },
);

it('a file that is not there is one line', () => {
  expect(() => replayFrom({ file: '/nonexistent.gz', behaviour: undefined, broken: undefined, json: false })).toThrow(
    '/nonexistent.gz: ENOENT',
  );
});
