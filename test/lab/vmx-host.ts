/**
 * An Intel host: Bochs emulates VMX with EPT, a Linux kernel on it loads kvm_intel. What it sees of the machine's files is on its
 * CD: those that a job needs (job-files.ts). init.sh lays a writable layer over them, which goes with the host. Output, errors and
 * status come by serial ports; Bochs writes each of them to a file that is read here as it grows. These files and the CD have no
 * names, so that nothing is left however this process ends.
 */
import { readSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { bochsrc, DEBUGGER_COMMANDS, KERNEL_COMMAND_LINE } from './bochs.ts';
import { makeCd } from './cd.ts';
import type { ArchiveEntry } from './cpio.ts';
import { type HostOptions, isStatus, jobStatus, Lines, startEmulator, uninterrupted } from './host.ts';
import { hostInitramfs } from './initramfs.ts';
import { quoted, script } from './job.ts';
import { filesIn, neededFiles } from './job-files.ts';
import { type NamelessFile, NamelessFiles } from './nameless-files.ts';
import { say } from './store.ts';
import { bochs } from './tools.ts';

export interface VmxHostOptions extends HostOptions {
  /** Files and folders of the machine, absolute, that the command needs besides Node and this package. */
  readonly files: readonly string[];
}

const PACKAGE = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const COMMAND = `${PACKAGE}/dist/bundle/main.cjs`;
const POLL_MS = 100;

/** Runs the job and resolves to its status, or to one of `JobStatus`. Nothing of the host is left when it resolves. */
export async function runOnVmxHost(options: VmxHostOptions): Promise<number> {
  const nameless = new NamelessFiles();
  try {
    return await run(options, nameless);
  } finally {
    nameless.close();
  }
}

async function run(options: VmxHostOptions, nameless: NamelessFiles): Promise<number> {
  const { kernel, timeoutSeconds, output, errors, verbose } = options;
  const tool = bochs();
  const cd = await uninterrupted(() => {
    const files = filesIn([...neededFiles(PACKAGE), ...options.files]);
    const content = { ...kernel, initramfs: initramfs(options), commandLine: KERNEL_COMMAND_LINE, files };
    return nameless.make((folder) => makeCd(content, folder));
  });
  const empty = (): NamelessFile => nameless.withText('');
  const ports = { console: empty(), out: empty(), err: empty(), status: empty() };
  const log = empty();
  const serial = Object.values(ports).map(({ path }) => path);
  const settings = nameless.withText(bochsrc({ ...tool, cd: cd.path, log: log.path, serial }));
  const commands = nameless.withText(DEBUGGER_COMMANDS);
  say(`vmx host: ${tool.title}, ${kernel.title}`);
  const child = startEmulator(tool, ['-q', '-f', settings.path, '-rc', commands.path], nameless.descriptors);

  const console = new Lines(verbose ? errors : undefined);
  let status = '';
  child.stdout?.resume(); // the screen
  child.stderr?.on('data', (chunk: Buffer) => console.add(chunk));
  const followed = [
    new Followed(ports.console, (chunk) => console.add(chunk)),
    new Followed(log, (chunk) => console.add(chunk)),
    new Followed(ports.out, (chunk) => output.write(chunk)),
    new Followed(ports.err, (chunk) => errors.write(chunk)),
    new Followed(ports.status, (chunk) => {
      status += chunk.toString('latin1');
      if (isStatus(status)) child.kill('SIGKILL'); // init.sh sends it after all else
    }),
  ];
  const read = (): void => {
    for (const each of followed) each.read();
  };
  const poll = setInterval(read, POLL_MS);
  const said = (): string => {
    read();
    return status;
  };
  try {
    return await jobStatus(child, { timeoutSeconds, said, console });
  } finally {
    clearInterval(poll);
    read();
  }
}

/** A file that grows: what has come since it was last read. */
class Followed {
  readonly #file: NamelessFile;
  readonly #take: (chunk: Buffer) => void;
  readonly #chunk = Buffer.alloc(65_536);
  #position = 0;

  constructor(file: NamelessFile, take: (chunk: Buffer) => void) {
    this.#file = file;
    this.#take = take;
  }

  read(): void {
    const { descriptor } = this.#file;
    let length = readSync(descriptor, this.#chunk, 0, this.#chunk.length, this.#position);
    while (length > 0) {
      this.#position += length;
      this.#take(Buffer.from(this.#chunk.subarray(0, length)));
      length = readSync(descriptor, this.#chunk, 0, this.#chunk.length, this.#position);
    }
  }
}

function initramfs({ kernel, job }: VmxHostOptions): Buffer {
  const shell = (name: string, text: string): ArchiveEntry => {
    return { name, mode: 0o755, data: Buffer.from(`#!/bin/sh\n${text}\n`) };
  };
  const folders = ['', '/bin', '/sbin', '/tmp', '/usr', '/usr/bin', '/usr/sbin'];
  return hostInitramfs(kernel, [
    ...folders.map((name) => ({ name: `extra${name}`, mode: 0o755 })),
    // npx finds the package's command in the package; here it is a program like others.
    shell('extra/usr/bin/npx', 'exec "$@"'),
    shell('extra/usr/bin/apiary', `exec ${[process.execPath, COMMAND].map(quoted).join(' ')} "$@"`),
    shell('extra/job', `mkdir -p ${quoted(job.directory)}\n${script(job)}`),
  ]);
}
