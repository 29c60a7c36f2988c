/**
 * Puts the ACPI tables into guest RAM: the RSDP at the start of the BIOS area, where guests that get no address scan for it
 * (ACPI 6.5, 5.2.5.1), the other tables behind it. Only a DSDT too long for that area (from about 1,000 CPUs on) goes to the
 * end of RAM instead, in a range that the memory map gives as ACPI data.
 */
import { FIRMWARE_BYTES } from '../firmware.ts';
import { BIOS_AREA, MEMORY_TYPE, type MemoryMapEntry, memoryMap } from '../memory-map.ts';
import type { AcpiCpu } from './cpu.ts';
import { dsdt } from './dsdt.ts';
import { fadt } from './fadt.ts';
import { madt } from './madt.ts';
import { controlStructure, packed, rootPointer, systemTable } from './table.ts';

export interface InstalledAcpi {
  /** for PVH and Linux; other guests find it by its signature */
  readonly rsdpAddress: number;
  /** `memoryMap(ram.length)`, less what the tables take: to be given to `loadImage` */
  readonly memoryMap: readonly MemoryMapEntry[];
}

export const MAX_ACPI_CPUS = 4096;
const ALIGNMENT = 64;
const PAGE = 0x1000;
/** Room in the BIOS area for all tables but DSDT and MADT. */
const SMALL_TABLES = 0x1000;

/**
 * @param ram guest-physical memory from 0, at least 2 MiB
 * @param cpus all that are or may come, 1 to 4,096, APIC IDs different; the first is the boot CPU, which cannot be ejected
 */
export function installAcpiTables(ram: Uint8Array, cpus: readonly AcpiCpu[]): InstalledAcpi {
  if (cpus.length === 0 || cpus.length > MAX_ACPI_CPUS) throw new RangeError(`ACPI tables for ${cpus.length} CPUs`);
  ram.fill(0, BIOS_AREA.base, BIOS_AREA.base + BIOS_AREA.size);
  let next = BIOS_AREA.base + ALIGNMENT;
  const put = (table: Uint8Array): number => {
    const address = next;
    ram.set(table, address);
    next = Math.ceil((address + table.length) / ALIGNMENT) * ALIGNMENT;
    return address;
  };
  const dsdtTable = dsdt(cpus);
  const madtTable = madt(cpus);
  const carved: MemoryMapEntry[] = [];
  const putDsdt = (): number => {
    const room = BIOS_AREA.size - SMALL_TABLES - FIRMWARE_BYTES;
    if (dsdtTable.length + madtTable.length <= room) return put(dsdtTable);
    const end = Math.floor(ram.length / PAGE) * PAGE;
    const base = end - Math.ceil(dsdtTable.length / PAGE) * PAGE;
    ram.set(dsdtTable, base);
    carved.push({ base, size: ram.length - base, type: MEMORY_TYPE.acpi });
    return base;
  };

  const facsAddress = put(controlStructure());
  const tables = [put(fadt(facsAddress, putDsdt(), cpus.length)), put(madtTable)];
  const rsdt = put(systemTable('RSDT', 1, packed(...tables.map((address) => [4, address] as const))));
  const xsdt = put(
    systemTable(
      'XSDT',
      1,
      packed(
        ...tables.flatMap(
          (address) =>
            [
              [4, address],
              [4, 0],
            ] as const,
        ),
      ),
    ),
  );
  ram.set(rootPointer(rsdt, xsdt), BIOS_AREA.base);
  return { rsdpAddress: BIOS_AREA.base, memoryMap: memoryMap(ram.length, carved) };
}
