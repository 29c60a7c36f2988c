/** The parts that all ACPI tables share: the description header, checksums, little-endian lists of fields (ACPI 6.5, 5.2.6). */

const OEM_ID = 'APIARY';
const OEM_TABLE_ID = 'APIARYVM';
const CREATOR_ID = 'APRY';
const HEADER = {
  signature: 0,
  length: 4,
  revision: 8,
  checksum: 9,
  oemId: 10,
  oemTableId: 16,
  oemRevision: 24,
  creatorId: 28,
  creatorRevision: 32,
  size: 36,
} as const;

/** A table with its header, length and checksum. @param body what follows the 36-byte header */
export function systemTable(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const table = new Uint8Array(HEADER.size + body.length);
  const view = new DataView(table.buffer);
  putText(table, HEADER.signature, signature);
  view.setUint32(HEADER.length, table.length, true);
  view.setUint8(HEADER.revision, revision);
  putText(table, HEADER.oemId, OEM_ID);
  putText(table, HEADER.oemTableId, OEM_TABLE_ID);
  view.setUint32(HEADER.oemRevision, 1, true);
  putText(table, HEADER.creatorId, CREATOR_ID);
  view.setUint32(HEADER.creatorRevision, 1, true);
  table.set(body, HEADER.size);
  putChecksum(table, HEADER.checksum, table.length);
  return table;
}

/** Root System Description Pointer, revision 2 (5.2.5.3). @returns 36 bytes */
export function rootPointer(rsdtAddress: number, xsdtAddress: number): Uint8Array {
  const rsdp = new Uint8Array(RSDP.size);
  const view = new DataView(rsdp.buffer);
  putText(rsdp, RSDP.signature, 'RSD PTR ');
  putText(rsdp, RSDP.oemId, OEM_ID);
  view.setUint8(RSDP.revision, 2);
  view.setUint32(RSDP.rsdt, rsdtAddress, true);
  view.setUint32(RSDP.length, RSDP.size, true);
  view.setUint32(RSDP.xsdt, xsdtAddress, true);
  putChecksum(rsdp, RSDP.checksum, RSDP.sizeRevision0);
  putChecksum(rsdp, RSDP.extendedChecksum, RSDP.size);
  return rsdp;
}

const RSDP = {
  signature: 0,
  checksum: 8,
  oemId: 9,
  revision: 15,
  rsdt: 16,
  sizeRevision0: 20,
  length: 20,
  xsdt: 24,
  extendedChecksum: 32,
  size: 36,
} as const;

/** Firmware ACPI Control Structure, version 2 (5.2.10): no header, no checksum; to be placed at a multiple of 64. */
export function controlStructure(): Uint8Array {
  const facs = new Uint8Array(64);
  putText(facs, 0, 'FACS');
  facs[4] = facs.length;
  facs[32] = 2;
  return facs;
}

/** Bytes of fields in order, each `[size in bytes, value]`, little-endian. */
export function packed(...list: readonly (readonly [size: 1 | 2 | 4, value: number])[]): Uint8Array {
  const bytes = list.flatMap(([size, value]) => [0, 8, 16, 24].slice(0, size).map((shift) => (value >>> shift) & 0xff));
  return Uint8Array.from(bytes);
}

/** Makes the first `length` bytes add up to 0 modulo 256. */
function putChecksum(table: Uint8Array, at: number, length: number): void {
  table[at] = 0;
  table[at] = -table.subarray(0, length).reduce((sum, byte) => sum + byte, 0) & 0xff;
}

function putText(table: Uint8Array, at: number, text: string): void {
  table.set(new TextEncoder().encode(text), at);
}
