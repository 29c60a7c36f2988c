/**
 * Every guest program, on our local APICs and on KVM's, with few and many threads. The guests check themselves: status 1
 * is "all counts match, nothing came early, nothing was lost".
 */
import type { MachineOptions } from 'apiary';
import { expect, test } from 'vitest';
import { describeKvm, GUEST_OK, guestImage, runGuest, SLOW_HOST_MS } from './support.ts';

const name = ({
  apic = 'user',
  cpus = 1,
  threads,
  behaviour,
  x2apicApi,
  failMapAllocation,
  sandbox,
}: MachineOptions): string =>
  [
    `apic ${apic}`,
    `cpus ${typeof cpus === 'number' ? cpus : cpus.map((id) => `0x${id.toString(16)}`).join(',')}`,
    ...(threads ? [`threads ${threads}`] : []),
    ...(behaviour ? [behaviour] : []),
    ...(x2apicApi?.use32bitIds ? ['gate on'] : []),
    ...(failMapAllocation ? ['without a map'] : []),
    ...(sandbox ? ['sandboxed'] : []),
  ].join(', ');

const guests: Readonly<Record<string, readonly MachineOptions[]>> = {
  hello: [{}, { threads: 1 }, { threads: 4, cpus: 4 }, { apic: 'kernel' }, { memory: '2M' }, { sandbox: true }],
  timer: [{ threads: 1 }, { threads: 2 }, { apic: 'kernel' }, { behaviour: 'hardware' }, { sandbox: true }],
  ipi: [
    { cpus: 2, threads: 1 },
    { cpus: 2, threads: 2 },
    { cpus: [0, 0x23], threads: 4 },
    { cpus: [0, 0x123], threads: 2, x2apicApi: { use32bitIds: true } },
    { cpus: [7, 3], threads: 2 },
    { cpus: 2, apic: 'kernel' },
    { cpus: [0, 0x123], apic: 'kernel', x2apicApi: { use32bitIds: true } },
    { cpus: 2, threads: 2, sandbox: true },
    { cpus: 2, apic: 'kernel', sandbox: true },
  ],
  storm: [
    { cpus: 2, threads: 1 },
    { cpus: 4, threads: 2, x2apicApi: { use32bitIds: true }, failMapAllocation: true },
    { cpus: 9, threads: 4, behaviour: 'kvm-legacy' },
    { cpus: [0, 3, 0x23, 0x123], threads: 2, behaviour: 'hardware', x2apicApi: { use32bitIds: true } },
    { cpus: 24, threads: 1 },
    { cpus: 24, threads: 2 },
    { cpus: 4, apic: 'kernel' },
    { cpus: 4, threads: 2, sandbox: true },
    { cpus: 4, apic: 'kernel', sandbox: true },
  ],
  torture: [{ threads: 1 }, { cpus: 2, threads: 2 }, { cpus: 2, behaviour: 'hardware' }, { cpus: 2, apic: 'kernel' }],
};

describeKvm('every guest passes its own checks', () => {
  for (const [guest, machines] of Object.entries(guests)) {
    test.each(machines.map((options) => [name(options), options] as const))(`${guest}: %s`, async (_name, options) => {
      const { result, text } = await runGuest(guestImage(guest), { ...options, timeoutMs: SLOW_HOST_MS });
      expect({ ...result, text }).toMatchObject({ reason: 'debug-exit', status: GUEST_OK });
    });
  }
});
