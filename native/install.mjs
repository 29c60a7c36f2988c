// The addon: npm's install step, and the build's. A package has it compiled already, one binary for every Linux on x86-64
// (apiary.c says why), so the install step only looks whether it loads. Where it does not, or is older than its source, one
// call of the C compiler makes it. Without a compiler `apiary/apic` works all the same: the install step says so and goes on;
// with --required it fails.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const require = createRequire(import.meta.url);
const source = join(here, 'apiary.c');
const addon = join(here, 'build/apiary.node');
const required = process.argv.includes('--required');

if (process.platform === 'linux' && process.arch === 'x64' && !isFresh()) {
  const problem = compile();
  if (problem !== undefined) {
    process.stderr.write(`apiary: no addon, so no guests (apiary/apic needs none): ${problem}\n`);
    if (required) process.exitCode = 1;
  }
}

function isFresh() {
  if (!existsSync(addon) || statSync(addon).mtimeMs < statSync(source).mtimeMs) return false;
  try {
    require(addon);
    return true;
  } catch {
    return false;
  }
}

/** @returns why not */
function compile() {
  const include = headers();
  if (include === undefined) return 'no node_api.h: npm install node-api-headers, then npm rebuild apiary';
  mkdirSync(dirname(addon), { recursive: true });
  const flags = ['-std=c11', '-O2', '-Wall', '-Wextra', '-fPIC', '-fvisibility=hidden', '-shared', '-nostdlib', '-s'];
  const { error, status, stderr } = spawnSync(
    process.env.CC || 'cc',
    [...flags, '-Wl,-z,nodelete', '-Wl,--build-id=none', '-I', include, source, '-o', addon],
    { encoding: 'utf8' },
  );
  if (error) return `no C compiler (${error.code}): apt-get install gcc libc6-dev, then npm rebuild apiary`;
  return status === 0 ? undefined : `the C compiler failed\n${stderr}`;
}

/** Node-API is the same for every Node: the headers of any will do. */
function headers() {
  const prefix = dirname(dirname(process.execPath));
  const places = [join(prefix, 'include/node'), '/usr/include/node'];
  try {
    places.unshift(require('node-api-headers').include_dir);
  } catch {
    // a devDependency: not there in an installed package
  }
  return places.find((place) => existsSync(join(place, 'node_api.h')));
}
