import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

if (!existsSync('/dev/kvm')) {
  process.stderr.write(
    'There is no /dev/kvm: tests that run a real guest are skipped (npx apiary doctor says what to do).\n',
  );
}

// Unit tests import from src/. Tests that start a machine import 'apiary' (the built package, dist/), because worker
// threads run compiled code: `npm test` builds first.
export default defineConfig({
  test: {
    root: new URL('..', import.meta.url).pathname,
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    testTimeout: 30_000,
    // Commands that tests run speak without colour, also where CI=true asks for it.
    env: { NO_COLOR: '1' },
  },
});
