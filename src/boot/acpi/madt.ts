/**
 * Multiple APIC Description Table, revision 5 (ACPI 6.5, 5.2.12): the CPUs, the I/O APIC, how ISA interrupts reach it.
 *
 * IDs up to 254 are described by type 0 and the others by type 9: Linux ignores a type 0 entry for 255 and, when there is
 * any type 0 entry, type 9 entries below 255. Absent CPUs are listed too, since Linux counts here how many CPUs there may
 * be: not Enabled, and (from revision 5 on) Online Capable.
 */
import { GSI, LOCAL_APIC_BASE, PLATFORM, TIMER_PIN } from '../../platform.ts';
import type { AcpiCpu } from './cpu.ts';
import { packed, systemTable } from './table.ts';

const REVISION = 5;
const TYPE = {
  LOCAL_APIC: 0,
  IOAPIC: 1,
  INTERRUPT_OVERRIDE: 2,
  LOCAL_APIC_NMI: 4,
  X2APIC: 9,
  X2APIC_NMI: 0xa,
} as const;
const CPU_FLAG = { ENABLED: 1 << 0, ONLINE_CAPABLE: 1 << 1 } as const;
const FIRST_X2APIC_ID = 255;
const PCAT_COMPAT = 1 << 0;
/** MPS INTI flags: bits 1:0 polarity, 3:2 trigger. */
const CONFORMS = 0;
const LEVEL_ACTIVE_HIGH = 0xd;
const ISA_BUS = 0;
const ALL_CPUS = { UID8: 0xff, UID32: 0xffff_ffff } as const;
const NMI_PIN = 1;

export function madt(cpus: readonly AcpiCpu[]): Uint8Array {
  const entries = [
    packed([4, LOCAL_APIC_BASE], [4, PCAT_COMPAT]),
    ...cpus.map((cpu) => cpuEntry(cpu.apicId, cpu.present ? CPU_FLAG.ENABLED : CPU_FLAG.ONLINE_CAPABLE)),
    packed([1, TYPE.IOAPIC], [1, 12], [1, 0], [1, 0], [4, PLATFORM.IOAPIC.base], [4, 0]),
    interruptOverride(GSI.TIMER, TIMER_PIN, CONFORMS),
    interruptOverride(GSI.SCI, GSI.SCI, LEVEL_ACTIVE_HIGH),
  ];
  if (cpus.some(({ apicId }) => apicId < FIRST_X2APIC_ID)) {
    entries.push(packed([1, TYPE.LOCAL_APIC_NMI], [1, 6], [1, ALL_CPUS.UID8], [2, CONFORMS], [1, NMI_PIN]));
  }
  if (cpus.some(({ apicId }) => apicId >= FIRST_X2APIC_ID)) {
    entries.push(
      packed([1, TYPE.X2APIC_NMI], [1, 12], [2, CONFORMS], [4, ALL_CPUS.UID32], [1, NMI_PIN], [1, 0], [2, 0]),
    );
  }
  const body = new Uint8Array(entries.reduce((sum, entry) => sum + entry.length, 0));
  let at = 0;
  for (const entry of entries) {
    body.set(entry, at);
    at += entry.length;
  }
  return systemTable('APIC', REVISION, body);
}

/** What a CPU's `_MAT` answers: its entry as it is once the CPU is there. */
export function hotPluggedEntry(apicId: number): Uint8Array {
  return cpuEntry(apicId, CPU_FLAG.ENABLED);
}

/** The UID is the APIC ID: so it always fits the 8 bits that a type 0 entry has for it. */
function cpuEntry(apicId: number, flags: number): Uint8Array {
  return apicId < FIRST_X2APIC_ID
    ? packed([1, TYPE.LOCAL_APIC], [1, 8], [1, apicId], [1, apicId], [4, flags])
    : packed([1, TYPE.X2APIC], [1, 16], [2, 0], [4, apicId], [4, flags], [4, apicId]);
}

function interruptOverride(isaIrq: number, gsi: number, flags: number): Uint8Array {
  return packed([1, TYPE.INTERRUPT_OVERRIDE], [1, 10], [1, ISA_BUS], [1, isaIrq], [4, gsi], [2, flags]);
}
