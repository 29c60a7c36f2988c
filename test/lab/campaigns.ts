/** What is asked of hosts as a matter of course: CI's slice, and the table of the README. */
import { JobStatus } from './job.ts';
import { SERIES } from './kernel.ts';
import { runSteps, type Step, type StepResult } from './steps.ts';

const APIARY = 'node dist/bundle/main.cjs';
/** `conform`: all equal, or equal without having seen every rule in the time that it had. */
const EQUAL = [0, 6];

/**
 * QEMU aborts in layer 2's guests and in torture ("cpu_interrupt: assertion failed: (bql_locked())", 11.1). Its
 * helper_write_crN calls cpu_interrupt without that lock when a guest writes CR8 while KVM waits for an interrupt window
 * (V_IRQ), as those guests do. So layer 2 goes without such writes, and torture is left out.
 */
const WITHOUT_CR8_WRITES = "-t '^((?!torture).)*$'";
/** Tests of test/kvm that say most about a host, in one start of vitest, which takes a minute there. */
const KVM_TESTS = ['user-interrupts', 'machine-hotplug', 'machine-reset'].map((name) => `test/kvm/${name}`).join(' ');
/** The first failure ends it: after one, a test may hang, and a step that does not finish counts as no failure. */
const VITEST =
  'node_modules/.bin/vitest run --config test/vitest.config.ts --reporter=verbose --bail=1 --poolOptions.forks.singleFork';

/** That nothing runs on the first CPU, which svm-host.ts is about. */
const FIRST_CPU_SPARED = "grep '^Cpus_allowed_list:[[:space:]]1-2$' /proc/self/status";

const SLICE: readonly Step[] = [
  { name: 'CPUs', command: FIRST_CPU_SPARED, limitSeconds: 10 },
  { name: 'doctor', command: `${APIARY} doctor`, limitSeconds: 60 },
  { name: 'demo', command: `${APIARY} demo --one-by-one`, limitSeconds: 200 },
  { name: 'layer 1', command: `${APIARY} conform --layer 1 --seconds 40`, limitSeconds: 120, good: EQUAL },
  { name: 'layer 3', command: `${APIARY} conform --layer 3 --seconds 20`, limitSeconds: 90, good: EQUAL },
  { name: 'test/kvm', command: `${VITEST} ${WITHOUT_CR8_WRITES} ${KVM_TESTS}`, limitSeconds: 300 },
];
const SLICE_SECONDS = 600;

/**
 * CI's: one host, 6.12. Status 0 if no step failed and `doctor` was good. A step that a slow machine did not finish, or that
 * QEMU died under, says nothing about apiary: it is told, and is no failure.
 */
export async function slice(kernel: string): Promise<number> {
  const results = await runSteps(kernel, SLICE, { limitSeconds: SLICE_SECONDS, output: process.stdout });
  for (const result of results) process.stdout.write(`lab ${kernel}: ${verdict(result)}\n`);
  const doctor = results.find(({ name }) => name === 'doctor');
  return doctor?.good && results.every(({ good, status }) => good || isUnfinished(status)) ? 0 : 1;
}

const isUnfinished = (status: number | undefined): boolean => status === undefined || status === JobStatus.TimeIsOver;

/** Every kernel: what it says of itself, the demo, and the three layers for so many seconds each. */
export async function matrix(seconds: number): Promise<number> {
  const layer = (number: number): Step => ({
    name: `layer ${number}`,
    command: `${APIARY} conform --layer ${number} --seconds ${seconds}${number === 2 ? ' --no-cr8-writes' : ''}`,
    limitSeconds: 120 + 3 * seconds,
    good: EQUAL,
  });
  const steps: readonly Step[] = [
    { name: 'release', command: 'uname -r', limitSeconds: 10 },
    { name: 'doctor', command: `${APIARY} doctor`, limitSeconds: 60 },
    { name: 'demo', command: `${APIARY} demo --one-by-one`, limitSeconds: 300 },
    ...[1, 2, 3].map(layer),
  ];
  let limitSeconds = 60;
  for (const step of steps) limitSeconds += step.limitSeconds;
  const rows: string[] = [];
  let status = 0;
  for (const kernel of Object.keys(SERIES)) {
    const [release, doctor, ...rest] = await runSteps(kernel, steps, { limitSeconds, output: process.stderr });
    if (!rest.every(({ good }) => good)) status = 1;
    const rules = /this kernel routes as ([^:]*):/.exec(doctor?.output.replaceAll(/\s+/g, ' ') ?? '')?.[1] ?? '-';
    rows.push(`| ${[`svm, ${release?.output.trim()}`, rules, ...rest.map(cell)].join(' | ')} |`);
  }
  const head = ['host', 'rules of its kernel', ...steps.slice(2).map(({ name }) => name)];
  const lines = [`| ${head.join(' | ')} |`, `|${' --- |'.repeat(head.length)}`, ...rows];
  process.stdout.write(`${lines.join('\n')}\n`);
  return status;
}

function verdict({ name, good, status, seconds }: StepResult): string {
  const end = { [JobStatus.TimeIsOver]: 'its time was over' }[status ?? 0] ?? `status ${status}`;
  return `${name}: ${good ? 'good' : isUnfinished(status) ? 'NOT FINISHED' : 'FAILED'}, ${status === undefined ? 'the host ended' : end}, ${seconds} s`;
}

/** "equal (12345)" out of conform's table: layer, cases, ... verdict; or what `verdict` says. */
function cell(result: StepResult): string {
  const [, cases, said] = /^│ \d +│ (\d+) +│.*│ (equal|DIFFERENT|different)/m.exec(result.output) ?? [];
  if (cases !== undefined) return `${said} (${cases})`;
  return result.good ? 'agrees' : verdict(result).replace(/^.*?: /, '');
}
