/**
 * Runs on the lab's host: boots Linux through scenarios and prints each one's `Boot` as a line of JSON.
 *
 *     tsx test/lab/linux/boot.ts VMLINUZ INITRD SCENARIO...
 */
import { Machine } from 'apiary';
import { type Boot, parseCounts, type UsedCpu } from './report.ts';
import { SCENARIOS, type ScenarioName } from './scenarios.ts';

const COMMAND_LINE = 'console=ttyS0 mitigations=off panic=-1';
/** The guest's end of the serial line: commands go out, answers are awaited. */
class Guest {
  readonly #machine: Machine;
  #text = '';
  #seen = 0;
  #wake: () => void = () => {};
  ended = false;

  constructor(machine: Machine) {
    this.#machine = machine;
    machine.on('serial', (chunk) => {
      this.#text += chunk.toString('latin1').replaceAll('\r', '');
      if (process.env.APIARY_LINUX_SHOW) process.stderr.write(chunk);
      this.#wake();
    });
  }

  get text(): string {
    return this.#text;
  }

  end(): void {
    this.ended = true;
    this.#wake();
  }

  async ask(command: string): Promise<void> {
    await this.#machine.sendSerial(`${command}\n`);
  }

  /** The first match after those of earlier calls. Rejects when the run ends without it. */
  async answer(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const whole = this.#text.lastIndexOf('\n') + 1; // a line may still be on its way
      const match = pattern.exec(this.#text.slice(this.#seen, Math.max(this.#seen, whole)));
      if (match) {
        this.#seen += match.index + match[0].length;
        return match;
      }
      if (this.ended) throw new Error(`the guest ended before it said ${pattern}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

const [vmlinuz = '', initrd = '', ...names] = process.argv.slice(2);

async function run(name: ScenarioName): Promise<Boot> {
  const { options, added, rounds, commandLine, seconds } = SCENARIOS[name];
  const start = performance.now();
  const machine = await Machine.create({
    memory: '512M',
    timeoutMs: seconds * 1000,
    hotpluggable: added,
    ...options,
  });
  const guest = new Guest(machine);
  const ejected: number[] = [];
  const ost: [number, number, number][] = [];
  machine.on('ejected', (apicId) => ejected.push(apicId));
  machine.on('ost', (apicId, event, status) => ost.push([apicId, event, status]));
  const used: UsedCpu[] = [];
  const refused: number[] = [];
  const masks: string[] = [];
  let failure = '';
  try {
    await machine.load(vmlinuz, { commandLine: `${COMMAND_LINE} ${commandLine}`, modules: [initrd] });
    const running = machine.run().finally(() => guest.end());
    const script = async (): Promise<void> => {
      masks.push((await guest.answer(/^LAB ready \S+ (.*)$/m))[1] ?? '');
      for (let round = 0; round < rounds; round += 1) {
        const linuxCpus: number[] = [];
        for (const apicId of added) linuxCpus.push(await plug(machine, guest, apicId, { used, refused }));
        for (const [index, apicId] of added.entries()) {
          await machine.unplug(apicId);
          await guest.ask(`gone ${linuxCpus[index]}`);
          await guest.answer(/^LAB gone .*$/m);
        }
      }
      await guest.ask('report');
      masks.push((await guest.answer(/^LAB reported (.*)$/m))[1] ?? '');
      await guest.ask('off');
    };
    await script().catch(async (error: unknown) => {
      failure = String(error);
      await machine.stop(1);
    });
    const { reason, status, detail = '' } = await running;
    const took = Object.fromEntries(
      [...guest.text.matchAll(/^LAB took (\d+) (.*)$/gm)].map(([, cpu, text]) => [`${cpu}`, parseCounts(text ?? '')]),
    );
    const elapsed = (performance.now() - start) / 1000;
    const console = guest.text;
    const end = {
      reason,
      status,
      detail: [failure, detail].filter(Boolean).join('; '),
      seconds: Math.round(elapsed),
      console,
    };
    return { scenario: name, took, used, refused, ejected, ost, masks, ...end };
  } finally {
    await machine.stop();
  }
}

/** Hot-adds a CPU, lets Linux use it, and resolves to Linux's number for it. */
async function plug(
  machine: Machine,
  guest: Guest,
  apicId: number,
  { used, refused }: { used: UsedCpu[]; refused: number[] },
): Promise<number> {
  await guest.ask('appeared');
  await machine.hotplug(apicId);
  const linuxCpu = Number((await guest.answer(/^LAB appeared (\d+)$/m))[1]);
  await guest.ask(`use ${linuxCpu}`);
  const [, answer = ''] = await guest.answer(/^LAB ((?:used|refused) .*)$/m);
  const [, apicid, task, before = '', after = ''] =
    /^used \d+ apicid (\d+) task on (\d+) before (.*) after (.*)$/.exec(answer) ?? [];
  if (apicid === undefined) refused.push(apicId);
  else {
    const counts = { before: parseCounts(before), after: parseCounts(after) };
    used.push({ apicId, linuxCpu, apicidOfLinux: Number(apicid), taskOn: Number(task), ...counts });
  }
  return linuxCpu;
}

for (const name of names) process.stdout.write(`${JSON.stringify(await run(name as ScenarioName))}\n`);
