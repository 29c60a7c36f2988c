/**
 * The headline of the hotplug guest (guest/hotplug.S) without a guest: the same machine and the same messages, by the model
 * alone. CPUs 0 and 0x23 boot; 0x123, whose 8-bit APIC ID is 0x23 as well, is hot-added; the boot CPU, in x2APIC mode, sends
 * a fixed interrupt while the others are in xAPIC mode, after it has started the new CPU by INIT and SIPI.
 */
import { type ApicSystemOptions, DELIVERY } from '../apic/index.ts';
import { type RouteCpu, type RouteQuestion, route } from './route.ts';

export const BOOT_CPUS: readonly [number, number] = [0, 0x23];
export const ADDED_CPU = 0x123;
/** The vector of the guest's test interrupts. */
export const TEST_VECTOR = 0x61;
/** Physical destinations of the interrupts. */
export const DESTINATIONS: readonly number[] = [BOOT_CPUS[1], ADDED_CPU, 0xffff_ffff];

export interface HotplugRow {
  /** For each of DESTINATIONS: who took it, ascending, and how it was routed. */
  readonly took: readonly { readonly cpus: readonly number[]; readonly path: 'self' | 'map' | 'scan' }[];
  /** Whom the INIT and SIPI to the new ID reached, the new CPU first. */
  readonly started: readonly number[];
}

export function hotplugRow(options: ApicSystemOptions): HotplugRow {
  const ask = (addedRuns: boolean, to: number, deliveryMode: number): HotplugRow['took'][number] => {
    const question: RouteQuestion = {
      cpus: cpusOf(addedRuns),
      from: BOOT_CPUS[0],
      to,
      logical: false,
      deliveryMode,
      vector: TEST_VECTOR,
    };
    const { cpus, path } = route(question, options);
    return { cpus: cpus.filter(({ takes }) => takes).map(({ apicId }) => apicId), path };
  };
  return {
    took: DESTINATIONS.map((to) => ask(true, to, DELIVERY.FIXED)),
    started: ask(false, ADDED_CPU, DELIVERY.INIT).cpus.toSorted((a, b) => b - a),
  };
}

/** @param addedRuns the new CPU has been started, and has software-enabled its APIC */
function cpusOf(addedRuns: boolean): RouteCpu[] {
  const cpu = { mode: 'xapic', softwareEnabled: true, logicalId: 0, cluster: false } as const;
  return [
    { ...cpu, apicId: BOOT_CPUS[0], mode: 'x2apic' },
    { ...cpu, apicId: BOOT_CPUS[1] },
    { ...cpu, apicId: ADDED_CPU, softwareEnabled: addedRuns },
  ];
}
