// The last step of the build: what makes dist/bundle a package's entries. `import` and `require` run the same code, the
// CommonJS bundle (one copy of each class in a process, and half the time to load); an ES module passes its exports on. The
// declarations that the entries reach say the same: those of the CommonJS code, below a package.json that says so, and for
// `import` a module that passes them on.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('../../dist', import.meta.url));
const bundle = join(dist, 'bundle');
const types = join(bundle, 'types');
for (const name of ['main', 'machine', 'worker']) makeProgram(name);
for (const name of ['index', 'apic', 'kvm']) writeFileSync(join(bundle, `${name}.mjs`), `export * from './${name}.cjs';\n`);
rmSync(join(bundle, 'cache'), { recursive: true, force: true });
rmSync(types, { recursive: true, force: true });
rmSync(join(bundle, 'esm'), { recursive: true, force: true });
mkdirSync(types);
writeFileSync(join(types, 'package.json'), '{ "type": "commonjs" }\n');

/** Makes of a bundle the function that src/start/code-cache.ts calls, with what its code cache goes by at the head. */
function makeProgram(name) {
  const file = join(bundle, `${name}.code.cjs`);
  const text = readFileSync(file, 'utf8');
  if (/[^\x00-\x7f]/.test(text)) throw new Error(`${file} is not ASCII, as which it is read`);
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 16);
  const head = `(function (exports, require, module, __filename, __dirname, importModule) {//${digest}\n`;
  writeFileSync(file, `${head}${text.replaceAll(/\bimport\(/g, 'importModule(')}\n})`);
}

const reached = new Set();
/** @param file a declaration file: with all that it imports */
function reach(file) {
  if (reached.has(file)) return;
  if (!existsSync(file)) {
    rmSync(join(dist, '.tsbuildinfo'), { force: true });
    throw new Error(`${file} is not there any more: build again`);
  }
  reached.add(file);
  for (const [, path] of readFileSync(file, 'utf8').matchAll(/(?:from|import\(|import)\s*['"](\.[^'"]+)['"]/g)) {
    reach(resolve(dirname(file), path.replace(/\.[jt]s$/, '.d.ts')));
  }
}
const { exports } = JSON.parse(readFileSync(join(dist, '../package.json'), 'utf8'));
for (const { import: esm } of Object.values(exports)) {
  if (esm?.types === undefined) continue;
  const path = relative('./dist/bundle/esm', esm.types);
  const entry = join(bundle, 'esm', path);
  reach(join(dist, path));
  mkdirSync(dirname(entry), { recursive: true });
  const up = relative(dirname(entry), join(types, path)).replace(/\.d\.ts$/, '.js');
  writeFileSync(entry, `export * from '${up}';\n`);
}
for (const file of reached) cpSync(file, join(types, relative(dist, file)));
