import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

// Each entry of the package is a bundle with a copy of the binding: the second one's koffi.config() threw.
test.each(['import', 'require'])('by %s, all entries of the package can be used in one process', (way) => {
  const all = ['apiary', 'apiary/kvm', 'apiary/apic'].map((entry) =>
    way === 'import' ? `await import('${entry}');` : `require('${entry}');`,
  );
  const type = way === 'import' ? '--input-type=module' : '--input-type=commonjs';
  const { status, stderr } = spawnSync(process.execPath, [type, '-e', all.join('\n')], {
    cwd: fileURLToPath(new URL('../../..', import.meta.url)),
    encoding: 'utf8',
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

test('every copy of the binding in a thread has the same addon, whose state is the thread’s', async () => {
  const copies = ['src/kvm/native.ts', 'dist/kvm/native.js'].map(
    (path) => new URL(`../../../${path}`, import.meta.url).href,
  );
  const [first, second] = (await Promise.all(copies.map((url) => import(url)))) as { native: { kick: unknown } }[];
  expect(second?.native.kick).toBe(first?.native.kick);
});
