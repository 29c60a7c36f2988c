/** The parts that all ACPI tables share: the description header, checksums, little-endian lists of fields (ACPI 6.5, 5.2.6). */

const OEM_ID = 'APIARY';
const OEM_TABLE_ID = 'APIARYVM';
const CREATOR_ID = 'APRY';
const HEADER = {
  SIGNATURE: 0,
  LENGTH: 4,
  REVISION: 8,
  CHECKSUM: 9,
  OEM_ID: 10,
  OEM_TABLE_ID: 16,
  OEM_REVISION: 24,
  CREATOR_ID: 28,
  CREATOR_REVISION: 32,
  SIZE: 36,
} as const;

/** A table with its header, length and checksum. @param body what follows the 36-byte header */
export function systemTable(signature: string, revision: number, body: Uint8Array): Uint8Array {
  const table = new Uint8Array(HEADER.SIZE + body.length);
  const view = new DataView(table.buffer);
  putText(table, HEADER.SIGNATURE, signature);
  view.setUint32(HEADER.LENGTH, table.length, true);
  view.setUint8(HEADER.REVISION, revision);
  putText(table, HEADER.OEM_ID, OEM_ID);
  putText(table, HEADER.OEM_TABLE_ID, OEM_TABLE_ID);
  view.setUint32(HEADER.OEM_REVISION, 1, true);
  putText(table, HEADER.CREATOR_ID, CREATOR_ID);
  view.setUint32(HEADER.CREATOR_REVISION, 1, true);
  table.set(body, HEADER.SIZE);
  putChecksum(table, HEADER.CHECKSUM, table.length);
  return table;
}

/** Root System Description Pointer, revision 2 (5.2.5.3). @returns 36 bytes */
export function rootPointer(rsdtAddress: number, xsdtAddress: number): Uint8Array {
  const rsdp = new Uint8Array(RSDP.SIZE);
  const view = new DataView(rsdp.buffer);
  putText(rsdp, RSDP.SIGNATURE, 'RSD PTR ');
  putText(rsdp, RSDP.OEM_ID, OEM_ID);
  view.setUint8(RSDP.REVISION, 2);
  view.setUint32(RSDP.RSDT, rsdtAddress, true);
  view.setUint32(RSDP.LENGTH, RSDP.SIZE, true);
  view.setUint32(RSDP.XSDT, xsdtAddress, true);
  putChecksum(rsdp, RSDP.CHECKSUM, RSDP.SIZE_REVISION0);
  putChecksum(rsdp, RSDP.EXTENDED_CHECKSUM, RSDP.SIZE);
  return rsdp;
}

const RSDP = {
  SIGNATURE: 0,
  CHECKSUM: 8,
  OEM_ID: 9,
  REVISION: 15,
  RSDT: 16,
  SIZE_REVISION0: 20,
  LENGTH: 20,
  XSDT: 24,
  EXTENDED_CHECKSUM: 32,
  SIZE: 36,
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
  let length = 0;
  for (const field of list) length += field[0];
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const field of list) {
    for (let byte = 0; byte < field[0]; byte++) bytes[at++] = field[1] >>> (8 * byte);
  }
  return bytes;
}

/** Makes the first `length` bytes add up to 0 modulo 256. */
function putChecksum(table: Uint8Array, at: number, length: number): void {
  table[at] = 0;
  let sum = 0;
  for (let index = 0; index < length; index++) sum += table[index] ?? 0;
  table[at] = -sum;
}

/** @param text ASCII */
function putText(table: Uint8Array, at: number, text: string): void {
  for (let index = 0; index < text.length; index++) table[at + index] = text.charCodeAt(index);
}
