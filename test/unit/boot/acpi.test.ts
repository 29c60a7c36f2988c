import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type AcpiCpu, installAcpiTables, loadImage } from '../../../src/boot/index.ts';
import { bzImage, le, MIB } from './images.ts';

const CPUS: readonly AcpiCpu[] = [0, 1, 0x23, 254, 255, 0x123].map((apicId, index) => ({ apicId, present: index < 3 }));
const manyCpus = (count: number) => Array.from({ length: count }, (_, apicId) => ({ apicId, present: true }));
const text = (bytes: Uint8Array, at: number, size: number) =>
  Buffer.from(bytes.subarray(at, at + size)).toString('latin1');
const sum = (bytes: Uint8Array) => bytes.reduce((total, byte) => (total + byte) & 0xff, 0);

/** Finds the tables as a guest does: scan for the RSDP, then the XSDT's list, then the FADT's pointers. */
function installed(cpus = CPUS, ram = new Uint8Array(4 * MIB)) {
  const { rsdpAddress, memoryMap } = installAcpiTables(ram, cpus);
  let rsdp = 0xe0000;
  while (text(ram, rsdp, 8) !== 'RSD PTR ') rsdp += 16;
  expect(rsdp).toBe(rsdpAddress);
  const table = (address: number) => ram.subarray(address, address + le(ram, address + 4, 4));
  const list = (address: number, width: 4 | 8) => {
    const bytes = table(address);
    const count = (bytes.length - 36) / width;
    return Array.from({ length: count }, (_, index) => le(bytes, 36 + width * index, width));
  };
  const rsdt = le(ram, rsdp + 16, 4);
  const xsdt = le(ram, rsdp + 24, 8);
  const [fadtAddress = 0, madtAddress = 0] = list(xsdt, 8);
  const fadt = table(fadtAddress);
  const [facs, dsdt] = [le(fadt, 36, 4), le(fadt, 40, 4)];
  return { ram, rsdp, rsdt, xsdt, list, table, fadt, madt: table(madtAddress), facs, dsdt, memoryMap };
}

/** MADT entries as arrays of bytes. */
function madtEntries(madt: Uint8Array): number[][] {
  const entries: number[][] = [];
  for (let at = 44; at < madt.length; at += madt[at + 1] ?? 1)
    entries.push([...madt.subarray(at, at + (madt[at + 1] ?? 1))]);
  return entries;
}

describe('the tables', () => {
  it('are found from the RSDP by both roots, with right checksums', () => {
    const { ram, rsdp, rsdt, xsdt, list, table, dsdt } = installed();
    expect(sum(ram.subarray(rsdp, rsdp + 20))).toBe(0);
    expect(sum(ram.subarray(rsdp, rsdp + 36))).toBe(0);
    expect([ram[rsdp + 15], le(ram, rsdp + 20, 4)]).toEqual([2, 36]);
    expect(list(rsdt, 4)).toEqual(list(xsdt, 8));
    const all = [rsdt, xsdt, ...list(xsdt, 8), dsdt];
    expect(all.map((address) => text(ram, address, 4))).toEqual(['RSDT', 'XSDT', 'FACP', 'APIC', 'DSDT']);
    for (const address of all) expect(sum(table(address))).toBe(0);
  });

  it('lie in the BIOS area, the FACS at a multiple of 64', () => {
    const { rsdt, xsdt, list, dsdt, facs, ram, memoryMap } = installed();
    for (const address of [rsdt, xsdt, facs, dsdt, ...list(xsdt, 8)]) {
      expect(address).toBeGreaterThanOrEqual(0xe0000);
      expect(address).toBeLessThan(0x100000);
    }
    expect([facs % 64, text(ram, facs, 4), le(ram, facs + 4, 4), ram[facs + 32]]).toEqual([0, 'FACS', 64, 2]);
    expect(memoryMap.map(({ type }) => type)).toEqual([1, 2, 2, 1]);
  });

  it('of thousands of CPUs keep a DSDT at the end of RAM, which the memory map gives as ACPI data', () => {
    const { dsdt, table, memoryMap } = installed(manyCpus(4096), new Uint8Array(4 * MIB));
    expect(text(table(dsdt), 0, 4)).toBe('DSDT');
    expect(sum(table(dsdt))).toBe(0);
    const last = memoryMap.at(-1);
    expect(last).toEqual({ base: dsdt, size: 4 * MIB - dsdt, type: 3 });
    expect(memoryMap.at(-2)).toEqual({ base: MIB, size: dsdt - MIB, type: 1 });
  });

  it('at the end of RAM are kept clear of the initrd', () => {
    const ram = new Uint8Array(16 * MIB);
    const acpi = installAcpiTables(ram, manyCpus(4096));
    const before = ram.slice(acpi.memoryMap.at(-1)?.base);
    const modules = [{ name: 'initrd', bytes: new Uint8Array(0x5000).fill(0xee) }];
    loadImage(bzImage({ preferredAddress: 2 * MIB }), ram, { name: 'vmlinuz', ...acpi, modules });
    expect(Buffer.compare(ram.subarray(acpi.memoryMap.at(-1)?.base), before)).toBe(0);
  });

  it('need 1 to 4,096 CPUs', () => {
    const ram = new Uint8Array(4 * MIB);
    expect(() => installAcpiTables(ram, [])).toThrow(RangeError);
    expect(() => installAcpiTables(ram, manyCpus(4097))).toThrow(RangeError);
  });
});

describe('the MADT', () => {
  it('is revision 5, for the local APICs at 0xfee00000 beside two 8259s', () => {
    const { madt } = installed();
    expect([madt[8], le(madt, 36, 4), le(madt, 40, 4)]).toEqual([5, 0xfee00000, 1]);
  });

  it('has type 0 entries to ID 254 and type 9 from 255 on, present ones enabled, absent ones online-capable', () => {
    const entries = madtEntries(installed().madt);
    expect(entries.slice(0, 6)).toEqual([
      [0, 8, 0, 0, 1, 0, 0, 0],
      [0, 8, 1, 1, 1, 0, 0, 0],
      [0, 8, 0x23, 0x23, 1, 0, 0, 0],
      [0, 8, 254, 254, 2, 0, 0, 0],
      [9, 16, 0, 0, 255, 0, 0, 0, 2, 0, 0, 0, 255, 0, 0, 0],
      [9, 16, 0, 0, 0x23, 1, 0, 0, 2, 0, 0, 0, 0x23, 1, 0, 0],
    ]);
  });

  it('has the I/O APIC, IRQ 0 at GSI 2, and the SCI level-triggered and active high', () => {
    expect(madtEntries(installed().madt).slice(6, 9)).toEqual([
      [1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0],
      [2, 10, 0, 0, 2, 0, 0, 0, 0, 0],
      [2, 10, 0, 9, 9, 0, 0, 0, 0xd, 0],
    ]);
  });

  it('has NMI entries for all CPUs of each kind that there is', () => {
    const type4 = [4, 6, 0xff, 0, 0, 1];
    const typeA = [0xa, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0];
    expect(madtEntries(installed().madt).slice(9)).toEqual([type4, typeA]);
    expect(madtEntries(installed(manyCpus(2)).madt).slice(-1)).toEqual([type4]);
    expect(madtEntries(installed([{ apicId: 0x100, present: true }]).madt).slice(-1)).toEqual([typeA]);
  });
});

describe('the FADT', () => {
  it('gives the fixed hardware in its 32-bit and extended fields', () => {
    const { fadt, dsdt } = installed();
    const gas = (at: number) => [fadt[at], fadt[at + 1], fadt[at + 3], le(fadt, at + 4, 8)];
    expect([fadt.length, fadt[8], fadt[131]]).toEqual([276, 6, 5]);
    expect([le(fadt, 46, 2), le(fadt, 48, 4)]).toEqual([9, 0]);
    expect([56, 64, 76, 80].map((at) => le(fadt, at, 4))).toEqual([0x600, 0x604, 0x608, 0x620]);
    expect([88, 89, 91, 92].map((at) => fadt[at])).toEqual([4, 2, 4, 16]);
    expect([148, 172, 208, 220].map(gas)).toEqual([
      [1, 32, 2, 0x600],
      [1, 16, 2, 0x604],
      [1, 32, 3, 0x608],
      [1, 128, 1, 0x620],
    ]);
    expect(le(fadt, 140, 8)).toBe(dsdt);
  });

  it('has a reset register and says so', () => {
    const { fadt } = installed();
    expect(le(fadt, 112, 4) & (1 << 10)).not.toBe(0);
    expect([fadt[116], fadt[117], le(fadt, 120, 8), fadt[128]]).toEqual([1, 8, 0xcf9, 6]);
  });

  it('asks for physical destinations with more than eight CPUs', () => {
    const physical = (count: number) => (le(installed(manyCpus(count)).fadt, 112, 4) >>> 19) & 1;
    expect([physical(8), physical(9)]).toEqual([0, 1]);
  });
});

const iasl = spawnSync('iasl', ['-v']);
const noIasl = iasl.error === undefined ? '' : ' (skipped: iasl of acpica-tools is not installed)';

describe.skipIf(noIasl !== '')(`the DSDT as iasl sees it${noIasl}`, () => {
  /** Disassembles, compiles the result, and returns both. */
  function roundTrip(cpus: readonly AcpiCpu[]) {
    const { dsdt, table } = installed(cpus);
    const directory = mkdtempSync(join(tmpdir(), 'apiary-acpi-'));
    try {
      writeFileSync(join(directory, 'dsdt.dat'), table(dsdt));
      const run = (...args: string[]) => spawnSync('iasl', args, { cwd: directory, encoding: 'utf8' });
      const disassembly = run('-d', 'dsdt.dat');
      expect(disassembly.stdout + disassembly.stderr).not.toMatch(/error|warning/i);
      const asl = readFileSync(join(directory, 'dsdt.dsl'), 'utf8');
      const compilation = run('-oa', '-p', 'again', 'dsdt.dsl');
      expect(compilation.stdout).toMatch(/ 0 Errors, 0 Warnings/);
      return { asl, before: table(dsdt), after: readFileSync(join(directory, 'again.aml')) };
    } finally {
      rmSync(directory, { recursive: true });
    }
  }

  it('disassembles and compiles again to the same bytes', () => {
    const { before, after } = roundTrip(CPUS);
    // All but the header: iasl writes its own name and version there, and so another checksum.
    expect(Buffer.compare(after.subarray(36), before.subarray(36))).toBe(0);
  });

  it('has soft off, the event device and one processor device for each CPU, the first not ejectable', () => {
    const { asl } = roundTrip(CPUS);
    expect(asl).toMatch(/Name \(\\_S5, Package/);
    expect(asl).toMatch(/Name \(_HID, "ACPI0013"/);
    expect(asl).toMatch(/Interrupt \(ResourceConsumer, Level, ActiveHigh, Exclusive[^)]*\)\s*\{\s*0x00000014,/);
    expect(asl.match(/Device \(C[0-9A-F]{3}\)/g)).toEqual(CPUS.map((_, index) => `Device (C00${index})`));
    expect(asl.match(/Method \(_EJ0/g)).toHaveLength(CPUS.length - 1);
    expect(asl).toMatch(/Name \(_UID, 0x0123\)/);
  });

  it('is valid with 4,096 CPUs', () => {
    const { asl } = roundTrip(manyCpus(4096));
    expect(asl).toMatch(/Device \(CFFF\)/);
  });
});
