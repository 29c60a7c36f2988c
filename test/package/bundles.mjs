// The build's bundles: what users import, with the names that their stack traces show, and the programs that the command is made
// of (src/start), without. What both programs need and few runs load is a bundle of its own.
import { build } from 'esbuild';

const common = {
  bundle: true,
  external: ['koffi', 'fast-check', 'cli-table3'],
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  minify: true,
  legalComments: 'none',
  logLevel: 'warning',
  outdir: 'dist/bundle',
  outExtension: { '.js': '.cjs' },
  define: { 'import.meta.url': 'moduleUrl' },
  banner: { js: "const moduleUrl = require('node:url').pathToFileURL(__filename).href;" },
};
const SHARED = './log-update.cjs';
/** commander loads it for subcommands that are programs of their own: we have none, and it takes 3 ms of each start. */
const withoutChildProcess = {
  name: 'commander-without-child-process',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:child_process$/ }, ({ importer }) =>
      importer.includes('/node_modules/commander/') ? { path: 'child_process', namespace: 'none' } : undefined,
    );
    onLoad({ filter: /^/, namespace: 'none' }, () => ({ contents: 'module.exports = {};' }));
  },
};

await build({
  ...common,
  keepNames: true,
  entryPoints: {
    index: 'src/index.ts',
    apic: 'src/apic/index.ts',
    kvm: 'src/kvm/index.ts',
    'race-worker': 'src/conform/race-worker.ts',
  },
});
await build({
  ...common,
  external: [...common.external, SHARED],
  alias: { 'log-update': SHARED },
  plugins: [withoutChildProcess],
  entryPoints: {
    main: 'src/start/main.ts',
    'main.code': 'src/start/command.ts',
    'machine.code': 'src/cli/machine-program.ts',
    worker: 'src/start/worker.ts',
    'worker.code': 'src/machine/worker.ts',
  },
});
// Node's `default` of a CommonJS module is all that it exports.
const footer = { js: 'module.exports = Object.assign(module.exports.default, module.exports);' };
await build({ ...common, footer, entryPoints: { 'log-update': 'log-update' } });
