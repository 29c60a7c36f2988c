/** src/TROUBLESHOOTING.md says what the command says: every remedy of the tables, and no other. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { capName } from '../../../src/kvm/constants.ts';
import { deviceAdvice } from '../../../src/kvm/device.ts';
import { CAPABILITIES } from '../../../src/kvm/doctor.ts';
import { REMEDIES } from '../../../src/kvm/errors.ts';
import { PROBES } from '../../../src/machine/ring0-gaps.ts';

const page = readFileSync(new URL('../../../src/TROUBLESHOOTING.md', import.meta.url), 'utf8');

/** The rows of the table below a heading, header and rule left out. */
function rows(heading: string): string[] {
  const section = page.split(/^## /m).find((each) => each.startsWith(heading)) ?? '';
  return section
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(2);
}

describe('the page', () => {
  test('has every remedy for a system call that the host refuses', () => {
    expect(rows('KVM refuses')).toEqual(
      Object.entries(REMEDIES).map(([key, remedy]) => {
        const [first, code] = key.split(':');
        return `| ${code === undefined ? 'any' : `\`${first}\``} | ${code ?? first} | ${remedy} |`;
      }),
    );
  });

  test('has every capability that doctor looks for', () => {
    expect(rows('A capability is missing')).toEqual(
      CAPABILITIES.map(([cap, , since, use]) => `| \`${capName(cap)}\` | ${since} | ${use} |`),
    );
  });

  test('has every gap that doctor looks for', () => {
    const gaps = rows("This host's KVM interprets").map((row) => row.split(' | ')[0]);
    expect(gaps).toEqual(PROBES.map(({ what }) => `| ${what}`));
  });

  test.each(['ENOENT', 'ENXIO', 'EPERM'])('has what is said of /dev/kvm and %s, in a container and outside', (code) => {
    const said = [false, true].map((inContainer) => deviceAdvice(code, undefined, inContainer));
    const [outside, inside] = said;
    expect(rows('/dev/kvm cannot be opened')).toContain(`| ${code} | ${outside} | ${inside} |`);
  });
});
