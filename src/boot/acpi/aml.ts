/**
 * An encoder for the part of AML that the DSDT here needs (ACPI 6.5, chapter 20, "ACPI Machine Language"). Each function is
 * one grammar production and returns its bytes, so a table is written as an expression shaped like its ASL:
 *
 *     device('GED_', nameDecl('_HID', string('ACPI0013')), method('_EVT', 1, ...))
 *
 * It encodes what it is told: that names exist and arguments fit is the caller's affair, and iasl's in the tests.
 */

/** Encoded AML: one term, object or list of them. */
export type Aml = Uint8Array;

const OP = {
  name: 0x08,
  bytePrefix: 0x0a,
  wordPrefix: 0x0b,
  dwordPrefix: 0x0c,
  stringPrefix: 0x0d,
  scope: 0x10,
  buffer: 0x11,
  package: 0x12,
  method: 0x14,
  dualName: 0x2e,
  multiName: 0x2f,
  extended: 0x5b,
  local0: 0x60,
  arg0: 0x68,
  store: 0x70,
  notify: 0x86,
  equal: 0x93,
  if: 0xa0,
  else: 0xa1,
  while: 0xa2,
  return: 0xa4,
} as const;
/** Second byte after `OP.extended`. */
const EXTENDED = { mutex: 0x01, acquire: 0x23, release: 0x27, region: 0x80, field: 0x81, device: 0x82 } as const;

/** Puts terms one after the other; numbers are single bytes. */
export function terms(...parts: readonly (Aml | number)[]): Aml {
  const bytes = new Uint8Array(
    parts.reduce<number>((sum, part) => sum + (typeof part === 'number' ? 1 : part.length), 0),
  );
  let at = 0;
  for (const part of parts) {
    if (typeof part === 'number') {
      bytes[at++] = part;
    } else {
      bytes.set(part, at);
      at += part.length;
    }
  }
  return bytes;
}

/**
 * NameString: `\` (root) and `^` (parent) prefixes, then segments of up to four characters between dots, padded with `_`.
 */
export function name(path: string): Aml {
  const prefix = /^[\\^]*/.exec(path)?.[0] ?? '';
  const segments = path
    .slice(prefix.length)
    .split('.')
    .filter((segment) => segment !== '');
  const count = segments.length;
  const lead = count === 0 ? [0] : count === 1 ? [] : count === 2 ? [OP.dualName] : [OP.multiName, count];
  return terms(ascii(prefix), ...lead, ...segments.map((segment) => ascii(segment.padEnd(4, '_'))));
}

/** An integer constant in its shortest form. @param value 0 to 2^32-1 */
export function integer(value: number): Aml {
  if (value <= 1) return terms(value);
  if (value <= 0xff) return terms(OP.bytePrefix, value);
  if (value <= 0xffff) return terms(OP.wordPrefix, ...littleEndian(value, 2));
  return terms(OP.dwordPrefix, ...littleEndian(value, 4));
}

export function string(text: string): Aml {
  return terms(OP.stringPrefix, ascii(text), 0);
}

/** A seven-character EISA ID such as PNP0A06: three letters of five bits, four hex digits, in big-endian order. */
export function eisaId(id: string): Aml {
  const [a = 0, b = 0, c = 0] = [...id.slice(0, 3)].map((letter) => letter.charCodeAt(0) - 0x40);
  const product = Number.parseInt(id.slice(3), 16);
  const vendor = (a << 10) | (b << 5) | c;
  return terms(OP.dwordPrefix, vendor >>> 8, vendor & 0xff, product >>> 8, product & 0xff);
}

export function buffer(bytes: Uint8Array): Aml {
  return terms(OP.buffer, sized(integer(bytes.length), bytes));
}

/** @param elements at most 255 */
export function packageOf(...elements: readonly Aml[]): Aml {
  return terms(OP.package, sized(elements.length, ...elements));
}

export function nameDecl(path: string, value: Aml): Aml {
  return terms(OP.name, name(path), value);
}

export function scope(path: string, ...body: readonly Aml[]): Aml {
  return terms(OP.scope, sized(name(path), ...body));
}

export function device(path: string, ...body: readonly Aml[]): Aml {
  return terms(OP.extended, EXTENDED.device, sized(name(path), ...body));
}

const SERIALIZED = 1 << 3;

/** A serialized method (one thread at a time), sync level 0. @param argumentCount 0 to 7 */
export function method(path: string, argumentCount: number, ...body: readonly Aml[]): Aml {
  return terms(OP.method, sized(name(path), argumentCount | SERIALIZED, ...body));
}

export function mutex(path: string): Aml {
  return terms(OP.extended, EXTENDED.mutex, name(path), 0);
}

/** Waits for ever. */
export function acquire(path: string): Aml {
  return terms(OP.extended, EXTENDED.acquire, name(path), ...littleEndian(0xffff, 2));
}

export function release(path: string): Aml {
  return terms(OP.extended, EXTENDED.release, name(path));
}

const SYSTEM_IO = 1;

export function ioRegion(path: string, port: number, bytes: number): Aml {
  return terms(OP.extended, EXTENDED.region, name(path), SYSTEM_IO, integer(port), integer(bytes));
}

export const FIELD_ACCESS = { byte: 1, word: 2, dword: 3 } as const;
/** What happens to the bits of an access unit that a write to a field does not cover. */
export const FIELD_UPDATE = { preserve: 0 << 5, writeAsZeros: 2 << 5 } as const;

/** @param units `[name, bits]` in order; a name of '' is a gap */
export function fields(
  region: string,
  access: (typeof FIELD_ACCESS)[keyof typeof FIELD_ACCESS],
  update: (typeof FIELD_UPDATE)[keyof typeof FIELD_UPDATE],
  units: readonly (readonly [name: string, bits: number])[],
): Aml {
  const list = units.map(([unit, bits]) => terms(unit === '' ? 0 : name(unit), ...packageLength(bits)));
  return terms(OP.extended, EXTENDED.field, sized(name(region), access | update, ...list));
}

/** @param index 0 to 6 */
export function arg(index: number): Aml {
  return terms(OP.arg0 + index);
}

/** @param index 0 to 7 */
export function local(index: number): Aml {
  return terms(OP.local0 + index);
}

export function store(value: Aml, target: Aml): Aml {
  return terms(OP.store, value, target);
}

export function equal(left: Aml, right: Aml): Aml {
  return terms(OP.equal, left, right);
}

export function ifThen(condition: Aml, ...body: readonly Aml[]): Aml {
  return terms(OP.if, sized(condition, ...body));
}

/** Follows an `ifThen`. */
export function otherwise(...body: readonly Aml[]): Aml {
  return terms(OP.else, sized(...body));
}

export function whileLoop(condition: Aml, ...body: readonly Aml[]): Aml {
  return terms(OP.while, sized(condition, ...body));
}

export function returns(value: Aml): Aml {
  return terms(OP.return, value);
}

export function notify(object: string, value: Aml): Aml {
  return terms(OP.notify, name(object), value);
}

/** A method call; AML has no delimiters, so the number of arguments must be the method's. */
export function call(path: string, ...args: readonly Aml[]): Aml {
  return terms(name(path), ...args);
}

/** A `_CRS` buffer of resource descriptors, with its end tag (whose checksum may be 0: "treat as correct"). */
export function resources(...descriptors: readonly Aml[]): Aml {
  return buffer(terms(...descriptors, 0x79, 0));
}

/** I/O port descriptor, 16-bit decode (ACPI 6.5, 6.4.2.5). */
export function ioPorts(port: number, count: number): Aml {
  return terms(0x47, 1, ...littleEndian(port, 2), ...littleEndian(port, 2), 1, count);
}

/** An ISA interrupt, edge-triggered and active high: IRQ descriptor without flags (6.4.2.1). @param irq 0 to 15 */
export function isaInterrupt(irq: number): Aml {
  return terms(0x22, ...littleEndian(1 << irq, 2));
}

const CONSUMER = 1 << 0;

/** Extended interrupt descriptor (6.4.3.6): level-triggered, active high, exclusive. */
export function levelInterrupt(gsi: number): Aml {
  return terms(0x89, ...littleEndian(6, 2), CONSUMER, 1, ...littleEndian(gsi, 4));
}

/** PkgLength, which counts itself, and then what it measures. */
function sized(...parts: readonly (Aml | number)[]): Aml {
  const body = terms(...parts);
  const width = [1, 2, 3, 4].find((bytes) => body.length + bytes < lengthLimit(bytes)) ?? 4;
  return terms(...packageLength(body.length + width, width), body);
}

/*
 * PkgLength (20.2.4): one byte for 0-63; else bits 7:6 of the first byte count the bytes that follow, its bits 3:0 are the
 * lowest four of the value, and the others follow from low to high.
 */
function packageLength(value: number, width = [1, 2, 3, 4].find((bytes) => value < lengthLimit(bytes)) ?? 4): number[] {
  if (width === 1) return [value];
  return [((width - 1) << 6) | (value & 0xf), ...littleEndian(value >>> 4, width - 1)];
}

function lengthLimit(width: number): number {
  return width === 1 ? 64 : 1 << (8 * width - 4);
}

function littleEndian(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => (value >>> (8 * index)) & 0xff);
}

function ascii(text: string): Aml {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
