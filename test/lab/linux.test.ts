/**
 * A stock Debian Linux on our APICs, in the lab: boots with two CPUs, takes a hot-added CPU whose APIC ID is over 0xff,
 * onlines and uses it, gives it back, and powers off by ACPI. One host boots once and takes Linux through every scenario
 * (test/lab/linux/); each test here judges one of them.
 *
 * It takes minutes and fetches 190 MB at first, so it runs where it is asked for:
 *
 *     APIARY_LAB_TESTS=1 npx vitest run --config test/vitest.config.ts test/lab/linux.test.ts
 *     APIARY_LAB_TESTS=user,gate-off ...      these scenarios only
 *     APIARY_LAB_GUEST=6.1 ...                another kernel as the guest, default 6.12
 *     APIARY_LAB_KERNEL=7.2 ...               another kernel as the host, default 6.12
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cpio } from './cpio.ts';
import { passedOn } from './job.ts';
import { guestKernel, hostKernel } from './kernel.ts';
import type { Boot, Counts } from './linux/report.ts';
import { SCENARIOS, type ScenarioName } from './linux/scenarios.ts';
import { contentFile } from './store.ts';
import { runOnSvmHost } from './svm-host.ts';
import { busybox } from './tools.ts';

const { APIARY_LAB_TESTS: asked, APIARY_LAB_GUEST: guest = '6.12', APIARY_LAB_KERNEL: host = '6.12' } = process.env;
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const HOST_SECONDS = 60;

const every = Object.keys(SCENARIOS) as ScenarioName[];
const chosen = asked === '1' ? every : every.filter((name) => asked?.split(',').includes(name));
const problem = whyNot();

function whyNot(): string | undefined {
  if (asked === undefined) return 'it takes minutes: set APIARY_LAB_TESTS=1';
  if (chosen.length === 0) return `APIARY_LAB_TESTS=${asked} names none of ${every.join(', ')}`;
  const missing = ['apt-get', 'dpkg-deb', 'setpriv'].find((tool) => spawnSync(tool, ['--version']).error);
  return missing === undefined ? undefined : `no ${missing} on this machine to fetch QEMU and kernels with`;
}

const boots = new Map<string, Boot>();
let seconds = HOST_SECONDS;
for (const name of chosen) seconds += SCENARIOS[name].seconds;

async function bootAll(): Promise<void> {
  const init = readFileSync(fileURLToPath(new URL('linux/guest-init.sh', import.meta.url)));
  const initrd = cpio([
    { name: 'bin', mode: 0o755 },
    { name: 'bin/busybox', mode: 0o755, data: readFileSync(busybox()) },
    { name: 'init', mode: 0o755, data: init },
  ]);
  const images = [guestKernel(guest, 'cloud-amd64').vmlinuz, contentFile('guest-initrd', initrd)];
  const output = new PassThrough();
  let text = '';
  output.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const program = [process.execPath, '--import', 'tsx', 'test/lab/linux/boot.ts'];
  const status = await runOnSvmHost({
    kernel: hostKernel(host, { kind: 'svm', busybox: busybox() }),
    job: {
      command: [...program, ...images, ...chosen],
      directory: ROOT,
      environment: passedOn(process.env, []),
      writable: [],
    },
    timeoutSeconds: seconds,
    cpus: 2,
    output,
    errors: process.stderr,
    verbose: false,
  });
  for (const line of text.split('\n').slice(0, -1)) {
    const boot: Boot = JSON.parse(line);
    boots.set(boot.scenario, boot);
  }
  expect(status).toBe(0);
}

describe.skipIf(problem !== undefined)(
  `Linux in the lab${problem === undefined ? '' : ` (skipped: ${problem})`}`,
  () => {
    beforeAll(bootAll, 2 * seconds * 1000); // as long again for what has to be fetched
    afterAll(() => {
      for (const boot of boots.values()) process.stdout.write(summary(boot));
    });

    it.each(chosen)('%s', (name) => {
      const { added, rounds, options } = SCENARIOS[name];
      const boot = boots.get(name);
      if (boot === undefined) throw new Error(`${name} did not finish`);
      const { reason, status, detail, used, refused, ejected, ost, console } = boot;
      expect({ reason, status, detail }, console.slice(-2000)).toEqual({ reason: 'shutdown', status: 0, detail: '' });
      const everyTime = Array.from({ length: rounds }, () => added).flat();
      expect(ejected).toEqual(everyTime);
      expect(console).toMatch(/CPU\d+ has been hot-added/);
      if (options.x2apicApi?.use32bitIds) {
        expect(refused).toEqual([]);
        expect(used.map(({ apicId }) => apicId)).toEqual(everyTime);
      } else {
        // Without the gate Linux must not use IDs over 255: nothing says that an interrupt can reach them.
        expect(refused).toEqual(everyTime);
      }
      for (const { apicId, apicidOfLinux, linuxCpu, taskOn, before, after } of used) {
        expect({ apicidOfLinux, taskOn }).toEqual({ apicidOfLinux: apicId, taskOn: linuxCpu });
        for (const kind of ['loc', 'res', 'cal'] as const) {
          const rise = kind === 'cal' ? after.cal : after[kind] - before[kind];
          expect(rise, `${kind} of APIC ID 0x${apicId.toString(16)}`).toBeGreaterThan(0);
        }
      }
      // ACPI 6.5, table 6.27: ejection in progress (0x84), then done (0).
      const answers = added.flatMap((apicId) => ost.filter(([id]) => id === apicId).map(([, , answer]) => answer));
      expect(answers.filter((answer) => answer !== 0 && answer !== 0x84)).toEqual([]);
      expect(boot.masks.at(-1)).toContain(`online 0-${cpuCount(options.cpus) - 1}`);
    });
  },
);

function cpuCount(cpus: number | readonly number[] = 1): number {
  return typeof cpus === 'number' ? cpus : cpus.length;
}

/** For a person: what Linux said of its CPUs, and the interrupts that each took. */
function summary({ scenario, seconds, masks, used, took, ost }: Boot): string {
  const counts = ({ loc, res, cal }: Counts): string => `LOC ${loc} RES ${res} CAL ${cal}`;
  return [
    `${scenario}: ${seconds} s; ${masks.join('; at the end ')}`,
    ...used.map(
      ({ apicId, linuxCpu, apicidOfLinux, after }) =>
        `  0x${apicId.toString(16)} was cpu${linuxCpu}, apicid ${apicidOfLinux}: ${counts(after)}`,
    ),
    ...Object.entries(took).map(([cpu, each]) => `  cpu${cpu}: ${counts(each)}`),
    `  _OST ${ost.map(([id, event, status]) => `0x${id.toString(16)} ${event} ${status}`).join(', ')}`,
    '',
  ].join('\n');
}
