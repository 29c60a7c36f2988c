/** Several commands on one host, since a host takes its time to boot: each with a limit of its own, all of them run. */
import { PassThrough } from 'node:stream';
import { passedOn } from './job.ts';
import { hostKernel } from './kernel.ts';
import { runOnSvmHost } from './svm-host.ts';
import { busybox } from './tools.ts';

export interface Step {
  readonly name: string;
  /** For sh. */
  readonly command: string;
  readonly limitSeconds: number;
  /** Statuses that are as they should be; default 0. */
  readonly good?: readonly number[];
}

export interface StepResult {
  readonly name: string;
  readonly good: boolean;
  /** 124 when its time was over. undefined: the host ended before. */
  readonly status: number | undefined;
  readonly seconds: number;
  /** Standard output. */
  readonly output: string;
}

const BEGIN = '::lab begin';
const END = '::lab end';

/** Runs the steps in the current directory; output goes to `output` as it comes. */
export async function runSteps(
  kernel: string,
  steps: readonly Step[],
  { limitSeconds, output }: { limitSeconds: number; output: NodeJS.WritableStream },
): Promise<StepResult[]> {
  const captured = new PassThrough();
  let text = '';
  captured.on('data', (chunk: Buffer) => {
    text += chunk.toString();
    output.write(chunk);
  });
  await runOnSvmHost({
    kernel: hostKernel(kernel, { kind: 'svm', busybox: busybox() }),
    job: {
      command: [stepScript(steps)],
      directory: process.cwd(),
      environment: { ...passedOn(process.env, []), NO_COLOR: '1' },
      writable: [],
    },
    timeoutSeconds: limitSeconds,
    cpus: 2,
    output: captured,
    errors: process.stderr,
    verbose: false,
  });
  return readResults(steps, text);
}

export function stepScript(steps: readonly Step[]): string {
  const parts = steps.map(
    ({ name, command, limitSeconds }) => `
echo '${BEGIN} ${name}'
start=$(date +%s)
timeout --kill-after=10 ${limitSeconds} sh <<'LAB_STEP'
${command}
LAB_STEP
echo "${END} $? $(($(date +%s) - start))"`,
  );
  return `${parts.join('\n')}\nexit 0\n`;
}

export function readResults(steps: readonly Step[], text: string): StepResult[] {
  return steps.map(({ name, good = [0] }) => {
    const begin = text.indexOf(`${BEGIN} ${name}\n`);
    const body = begin < 0 ? '' : text.slice(text.indexOf('\n', begin) + 1);
    const end = new RegExp(`^${END} (\\d+) (\\d+)$`, 'm').exec(body);
    const status = end ? Number(end[1]) : undefined;
    return {
      name,
      good: status !== undefined && good.includes(status),
      status,
      seconds: Number(end?.[2] ?? 0),
      output: end ? body.slice(0, end.index) : body,
    };
  });
}
