/**
 * An AMD host: QEMU's TCG emulates SVM with nested paging, a Linux kernel on it loads kvm_amd. The machine's root is there
 * by 9p, read only; init.sh lays a writable layer over it, which goes with the host. Output, errors and status come by
 * virtio ports, each connected to a descriptor of this process; the serial line has the kernel's own words.
 */
import { totalmem } from 'node:os';
import { type HostOptions, jobStatus, Lines, portOf, startEmulator } from './host.ts';
import { hostInitramfs } from './initramfs.ts';
import { script } from './job.ts';
import { contentFile, say } from './store.ts';
import { qemu } from './tools.ts';

export interface SvmHostOptions extends HostOptions {
  /** Those that the job runs on. */
  readonly cpus: number;
}

const PORTS = ['out', 'err', 'control'] as const;
const FIRST_DESCRIPTOR = 3;
/** A host needs half a GiB for itself, and what a job writes lies in memory. */
const MEMORY_MIB = Math.min(6144, Math.floor(totalmem() / 2 ** 20 / 2));
/** 5-level paging makes every access of the guest slower, and nested paging under it has no use for it. */
const CPU = 'max,la57=off,pku=off';
/**
 * One CPU more than the job has, the first, on which no guest runs: whenever another CPU restores its FPU, QEMU writes the
 * first one's flags without a lock (cpu_clear_ignne, target/i386/tcg/system/fpu_helper.c of 10.2; 11.1 behaves so, too), among
 * them GIF and whether nested paging is on. A VMRUN that loses the latter runs the guest in the host's own memory.
 */
const SPARED_CPUS = 1;
/** One CPU at first: init.sh brings the others, when the kernel has patched what it patches. */
const COMMAND_LINE = 'console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off tsc=reliable maxcpus=1 lab.host=svm';

/** Runs the job and resolves to its status, or to one of `JobStatus`. Nothing of the host is left when it resolves. */
export async function runOnSvmHost(options: SvmHostOptions): Promise<number> {
  const { kernel, job, timeoutSeconds, output, errors, verbose } = options;
  const text = script(job);
  const tool = qemu();
  say(`svm host: ${tool.title}, ${kernel.title}`);
  const ports = PORTS.map(() => 'pipe' as const);
  const child = startEmulator(tool, machine(options, Buffer.byteLength(text)), ports);
  const [out, err, control] = PORTS.map((_, index) => portOf(child, FIRST_DESCRIPTOR + index));
  const console = new Lines(verbose ? errors : undefined);
  child.stdout?.on('data', (chunk: Buffer) => console.add(chunk));
  child.stderr?.on('data', (chunk: Buffer) => console.add(chunk));
  out?.pipe(output, { end: false });
  err?.pipe(errors, { end: false });
  let status = '';
  control?.on('data', (chunk: Buffer) => {
    status += chunk.toString('latin1');
  });
  control?.write(text);

  return jobStatus(child, { timeoutSeconds, said: () => status, console });
}

function machine({ kernel, job, cpus }: SvmHostOptions, jobBytes: number): string[] {
  const share = (id: string, path: string, more: string): string[] => [
    ...['-fsdev', `local,id=${id},path=${path},security_model=none,multidevs=remap${more}`],
    ...['-device', `virtio-9p-pci,fsdev=${id},mount_tag=${id}`],
  ];
  return [
    ...['-M', 'q35', '-accel', 'tcg,thread=multi,tb-size=1024', '-cpu', CPU, '-smp', `${cpus + SPARED_CPUS}`],
    ...['-m', `${MEMORY_MIB}`, '-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', kernel.vmlinuz, '-initrd', contentFile('initramfs', hostInitramfs(kernel, []))],
    ...['-append', `${COMMAND_LINE} lab.job=${jobBytes}`],
    ...['-device', 'virtio-rng-pci', '-device', 'virtio-serial-pci'],
    ...PORTS.flatMap((name, index) => [
      ...['-chardev', `socket,id=${name},fd=${FIRST_DESCRIPTOR + index}`],
      ...['-device', `virtserialport,chardev=${name},name=lab.${name}`],
    ]),
    ...share('root', '/', ',readonly=on'),
    ...job.writable.flatMap((folder, index) => share(`w${index}`, folder, '')),
  ];
}
