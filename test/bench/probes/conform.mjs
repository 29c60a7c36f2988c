// conform.mjs LAYER SECONDS: how fast `apiary conform` compares. Prints {"perSecond", "equal"}.
import { runLayer } from '../../../dist/conform/run.js';

const [layer, seconds] = process.argv.slice(2).map(Number);
const seed = Math.floor(Math.random() * 0x7fffffff);
const result = await runLayer({ layer, seed, millis: seconds * 1000, behaviour: 'kvm', breakRules: [] });
process.stdout.write(
  JSON.stringify({ perSecond: result.cases / (result.millis / 1000), equal: result.failure === undefined }),
  () => process.exit(),
);
