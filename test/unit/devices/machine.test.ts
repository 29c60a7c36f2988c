// What devices say reaches the machine's user: the built package with scripted guests, so without KVM.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Machine } from 'apiary';
import { expect, test } from 'vitest';

const COMMAND = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));
const GUESTS = new URL('scripts/guests.mjs', import.meta.url);
/** Any image will do: nobody executes it. */
const IMAGE = fileURLToPath(GUESTS);
const LOAD = { loadAddress: 0x1000 };
const WARNING =
  'apiary: warning: the guest called the BIOS: INT 0x13 (disk), AX 0x201; there is none here but INT 0x10 AH=0xe, ' +
  'so the call returned with CF set\n';

test.each([
  [[], { stdout: 'sd', stderr: WARNING }],
  [['--debug-console', 'stderr'], { stdout: 's', stderr: `${WARNING}d` }],
  [['--debug-console', 'off'], { stdout: 's', stderr: WARNING }],
])(
  'run %j: the first BIOS call is named once on stderr, the debug console is where it was asked for',
  (options, said) => {
    const run = ['run', IMAGE, '--load-address', '0x1000', '--script', `${GUESTS}?bios`, ...options];
    const { status, stdout, stderr } = spawnSync(process.execPath, [COMMAND, ...run], { encoding: 'utf8' });
    expect({ status, stdout, stderr }).toEqual({ status: 1, ...said });
  },
);

test('powerButton() is seen by the guest, which powers off', async () => {
  const machine = await Machine.create({ script: `${GUESTS}?button` });
  try {
    await machine.load(IMAGE, LOAD);
    const started = new Promise((resolve) => machine.once('firstRun', resolve));
    const run = machine.run();
    await started;
    await machine.powerButton();
    expect(await run).toMatchObject({ reason: 'shutdown', status: 0 });
  } finally {
    await machine.stop();
  }
});
