/** Layer 3: races. Needs no KVM; threads run compiled code, so this runs the built command. See src/conform/layer3.ts. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { freshSeed } from '../../src/conform/random.ts';
import { SECONDS, say } from './campaign.ts';

const command = new URL('../../dist/cli/main.js', import.meta.url).pathname;

it(
  'no interrupt is lost or doubled while threads change everything, and nobody sees half a map',
  async () => {
    const seed = freshSeed();
    const options = ['conform', '--layer', '3', '--seconds', String(SECONDS), '--seed', String(seed)];
    const { stdout } = await promisify(execFile)(process.execPath, [command, ...options]);
    say(`layer 3: seed ${seed}`);
    expect(stdout).toContain('equal');
  },
  SECONDS * 1000 + 60_000,
);
