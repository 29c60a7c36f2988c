// The last step of the build: what makes dist/bundle a package's entries. `import` and `require` run the same code, the
// CommonJS bundle (one copy of each class in a process, and half the time to load); an ES module passes its exports on. The
// declarations are there a second time, below a package.json that says CommonJS, for TypeScript's `require`.
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../../dist', import.meta.url));
const bundle = join(dist, 'bundle');
const types = join(bundle, 'types');
const NOT_IN_THE_API = ['bundle', 'cli', 'conform', 'suite'];

for (const name of ['index', 'apic', 'kvm']) writeFileSync(join(bundle, `${name}.mjs`), `export * from './${name}.cjs';\n`);
rmSync(types, { recursive: true, force: true });
mkdirSync(types);
writeFileSync(join(types, 'package.json'), '{ "type": "commonjs" }\n');
for (const entry of readdirSync(dist, { withFileTypes: true })) {
  if (NOT_IN_THE_API.includes(entry.name)) continue;
  const isWanted = (path) => path.endsWith('.d.ts') || !/\.\w+$/.test(path);
  cpSync(join(dist, entry.name), join(types, entry.name), { recursive: true, filter: isWanted });
}
