/**
 * Judges a model by what a real kernel answered, without KVM: a file of recorded cases (src/conform/RECORDED.md) is lines of JSON,
 * so every language can do this. Here it is all of the command's replay, in a program of one's own.
 */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const COMMAND = fileURLToPath(new URL('../../dist/bundle/main.cjs', import.meta.url));
const files = process.argv.slice(2);
for (const file of files.length > 0 ? files : ['']) {
  const { stdout } = await promisify(execFile)(process.execPath, [
    COMMAND,
    'conform',
    '--replay',
    ...(file ? [file] : []),
  ]);
  process.stdout.write(stdout);
}
