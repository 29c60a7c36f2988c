/**
 * What Bochs and the GRUB on its CD are told: a PC without disk, network and picture, whose CPU has VMX, that boots Linux from
 * the CD. Its four serial ports are the console, the command's output and errors, and its status.
 */

/** For Bochs' debugger, which Debian's Bochs has: run. */
export const DEBUGGER_COMMANDS = 'c\n';

/**
 * How many instructions are a second of the host's time. The time goes by them alone (sync=none), so timers and deadlines there
 * know nothing of how fast Bochs is here (some 50 million a second), and an idle CPU waits for nothing.
 */
const INSTRUCTIONS_A_SECOND = 100_000_000;
const MEMORY_MIB = 2048;

/** The CPU's leaf 15H says 3.5 GHz whatever a second is: a kernel that believed it would be 35 times too slow. */
export const KERNEL_COMMAND_LINE = [
  'console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off no_timer_check lab.host=vmx',
  `tsc=reliable tsc_early_khz=${INSTRUCTIONS_A_SECOND / 1000}`,
].join(' ');

export interface BochsFiles {
  readonly bios: string;
  readonly vgaBios: string;
  readonly cd: string;
  readonly log: string;
  /** What COM1 and on write to. */
  readonly serial: readonly string[];
}

export function bochsrc({ bios, vgaBios, cd, log, serial }: BochsFiles): string {
  const lines = [
    'config_interface: textconfig',
    'display_library: term',
    `cpu: model=corei7_skylake_x, count=1, ips=${INSTRUCTIONS_A_SECOND}, reset_on_triple_fault=0`,
    'clock: sync=none, time0=utc',
    `memory: guest=${MEMORY_MIB}, host=${MEMORY_MIB}`,
    `romimage: file=${bios}`,
    `vgaromimage: file=${vgaBios}`,
    'vga: extension=vbe, update_freq=1',
    'ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14',
    `ata0-master: type=cdrom, path=${cd}, status=inserted`,
    'boot: cdrom',
    'sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy',
    ...serial.map((path, index) => `com${index + 1}: enabled=1, mode=file, dev=${path}`),
    `log: ${log}`,
    'panic: action=fatal',
    'error: action=ignore',
    'info: action=ignore',
    'debug: action=ignore',
  ];
  return `${lines.join('\n')}\n`;
}

/** What GRUB does, as the configuration inside it: there is no menu and no module to load. */
export function grubConfig(commandLine: string): string {
  return `set root=cd\nlinux /vmlinuz ${commandLine}\ninitrd /initrd\nboot\n`;
}

export const GRUB_MODULES = ['biosdisk', 'iso9660', 'linux', 'boot'];
