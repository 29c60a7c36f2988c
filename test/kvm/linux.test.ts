/**
 * A real Linux on our APICs: boots with two CPUs, onlines a hot-added one whose APIC ID is over 0xff, and powers off by
 * ACPI. There is no kernel in this repository; these tests run when the environment names one.
 *
 *     APIARY_LINUX          a bzImage, or a vmlinux with the PVH note (faster by its decompression)
 *     APIARY_INITRD         an initrd whose init prints "POWEROFF" as it powers off, and onlines CPUs that appear when
 *                           the command line has apiary=hotplug, printing "ONLINED cpuN"
 *     APIARY_LINUX_ARGS     more words for the command line; a host that interprets ring 0 needs some: noxsave and
 *                           clearcpuid=popcnt,smap nopcid tsc=reliable
 *     APIARY_LINUX_SECONDS  how long one boot may take, default 300
 */
import { Machine, type MachineOptions, type RunResult } from 'apiary';
import { expect, it } from 'vitest';
import { describeKvm } from './support.ts';

const { APIARY_LINUX: kernel, APIARY_INITRD: initrd, APIARY_LINUX_ARGS: words = '' } = process.env;
const seconds = Number(process.env.APIARY_LINUX_SECONDS ?? 300);
const missing = kernel === undefined || initrd === undefined;
const linuxIt = it.skipIf(missing);
const why = missing ? ' (skipped: set APIARY_LINUX and APIARY_INITRD)' : '';
const HOT_ADDED = 0x123;

interface Boot extends RunResult {
  readonly text: string;
}

async function boot(
  options: MachineOptions,
  mode: string,
  onText?: (text: string, machine: Machine) => void,
): Promise<Boot> {
  const machine = await Machine.create({ memory: '256M', cpu: 'host,-cx16', timeoutMs: seconds * 1000, ...options });
  let text = '';
  machine.on('serial', (chunk) => {
    text += chunk.toString('latin1');
    onText?.(text, machine);
  });
  try {
    await machine.load(kernel ?? '', {
      commandLine: `console=ttyS0 ${words} apiary=${mode}`,
      modules: [initrd ?? ''],
    });
    return { ...(await machine.run()), text };
  } finally {
    await machine.stop();
  }
}

describeKvm('Linux', () => {
  linuxIt.each(['user', 'kernel'] as const)(
    `boots with two CPUs and powers off, on the APICs of %s${why}`,
    async (apic) => {
      const { text, reason, status } = await boot({ cpus: 2, apic }, 'none');
      expect(text).toMatch(/x2apic enabled|Switched APIC routing to.*x2apic/);
      expect(text).toContain('Brought up 1 node, 2 CPUs');
      expect(text).toContain('POWEROFF');
      expect({ reason, status }).toEqual({ reason: 'shutdown', status: 0 });
    },
    seconds * 1000,
  );

  linuxIt(
    `takes a hot-added CPU with APIC ID 0x123${why}`,
    async () => {
      let plugged = false;
      const { text, status } = await boot(
        { cpus: 2, hotpluggable: [HOT_ADDED], x2apicApi: { use32bitIds: true } },
        'hotplug',
        (text, machine) => {
          if (plugged || !text.includes('WAIT-HOTPLUG')) return;
          plugged = true;
          void machine.hotplug(HOT_ADDED);
        },
      );
      expect(text).toContain('ONLINED cpu2');
      expect(text).toMatch(/apicid\s*: 291/);
      expect(status).toBe(0);
    },
    seconds * 1000,
  );
});
