// npm's install step: uses a prebuilt binary (native/prebuilds/) where one loads, else compiles with node-gyp.
// Node's own headers are used where the Node that runs brought them (no download then); npm's --nodedir still wins.
// A binary older than the source is built again.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const modified = (name) => statSync(join(here, name), { throwIfNoEntry: false })?.mtimeMs;
const prefix = dirname(dirname(process.execPath));
const env = { ...process.env };

if (env.npm_config_nodedir === undefined && existsSync(join(prefix, 'include/node/node_api.h'))) {
  env.npm_config_nodedir = prefix;
}
const built = modified('build/Release/apiary.node');
if (built !== undefined && ['apiary.cc', 'binding.gyp'].some((name) => modified(name) > built)) {
  env.npm_config_build_from_source = 'true';
}
const { error, status } = spawnSync('node-gyp-build', { cwd: here, env, stdio: 'inherit' });
if (error) throw error;
process.exit(status ?? 1);
