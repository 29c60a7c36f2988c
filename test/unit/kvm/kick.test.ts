/** A kick gets through while the user's signal queue is full: real-time signals do not, and a guest then ran past its time limit. */
import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

const NATIVE = new URL('../../../src/kvm/native.ts', import.meta.url).href;

test('with no room in the signal queue at all', () => {
  const program = `
    import { native } from '${NATIVE}';
    process.stdout.write(String(native.kick(native.threadId())));`;
  const { stdout, stderr } = spawnSync(
    'bash',
    ['-c', 'ulimit -i 0 && exec "$0" --import tsx --input-type=module --eval "$1"', process.execPath, program],
    { encoding: 'utf8', timeout: 60_000 },
  );
  expect({ stdout, stderr }).toEqual({ stdout: 'true', stderr: '' });
});
