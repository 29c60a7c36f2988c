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
  NAME: 0x08,
  BYTE_PREFIX: 0x0a,
  WORD_PREFIX: 0x0b,
  DWORD_PREFIX: 0x0c,
  STRING_PREFIX: 0x0d,
  SCOPE: 0x10,
  BUFFER: 0x11,
  PACKAGE: 0x12,
  METHOD: 0x14,
  DUAL_NAME: 0x2e,
  MULTI_NAME: 0x2f,
  EXTENDED: 0x5b,
  LOCAL0: 0x60,
  ARG0: 0x68,
  STORE: 0x70,
  NOTIFY: 0x86,
  EQUAL: 0x93,
  IF: 0xa0,
  ELSE: 0xa1,
  WHILE: 0xa2,
  RETURN: 0xa4,
} as const;
/** Second byte after `OP.EXTENDED`. */
const EXTENDED = { MUTEX: 0x01, ACQUIRE: 0x23, RELEASE: 0x27, REGION: 0x80, FIELD: 0x81, DEVICE: 0x82 } as const;

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
  const lead = count === 0 ? [0] : count === 1 ? [] : count === 2 ? [OP.DUAL_NAME] : [OP.MULTI_NAME, count];
  return terms(ascii(prefix), ...lead, ...segments.map((segment) => ascii(segment.padEnd(4, '_'))));
}

/** An integer constant in its shortest form. @param value 0 to 2^32-1 */
export function integer(value: number): Aml {
  if (value <= 1) return terms(value);
  if (value <= 0xff) return terms(OP.BYTE_PREFIX, value);
  if (value <= 0xffff) return terms(OP.WORD_PREFIX, ...littleEndian(value, 2));
  return terms(OP.DWORD_PREFIX, ...littleEndian(value, 4));
}

export function string(text: string): Aml {
  return terms(OP.STRING_PREFIX, ascii(text), 0);
}

/** A seven-character EISA ID such as PNP0A06: three letters of five bits, four hex digits, in big-endian order. */
export function eisaId(id: string): Aml {
  const [a = 0, b = 0, c = 0] = [...id.slice(0, 3)].map((letter) => letter.charCodeAt(0) - 0x40);
  const product = Number.parseInt(id.slice(3), 16);
  const vendor = (a << 10) | (b << 5) | c;
  return terms(OP.DWORD_PREFIX, vendor >>> 8, vendor & 0xff, product >>> 8, product & 0xff);
}

export function buffer(bytes: Uint8Array): Aml {
  return terms(OP.BUFFER, sized(integer(bytes.length), bytes));
}

/** @param elements at most 255 */
export function packageOf(...elements: readonly Aml[]): Aml {
  return terms(OP.PACKAGE, sized(elements.length, ...elements));
}

export function nameDecl(path: string, value: Aml): Aml {
  return terms(OP.NAME, name(path), value);
}

export function scope(path: string, ...body: readonly Aml[]): Aml {
  return terms(OP.SCOPE, sized(name(path), ...body));
}

export function device(path: string, ...body: readonly Aml[]): Aml {
  return terms(OP.EXTENDED, EXTENDED.DEVICE, sized(name(path), ...body));
}

const SERIALIZED = 1 << 3;

/** A serialized method (one thread at a time), sync level 0. @param argumentCount 0 to 7 */
export function method(path: string, argumentCount: number, ...body: readonly Aml[]): Aml {
  return terms(OP.METHOD, sized(name(path), argumentCount | SERIALIZED, ...body));
}

export function mutex(path: string): Aml {
  return terms(OP.EXTENDED, EXTENDED.MUTEX, name(path), 0);
}

/** Waits for ever. */
export function acquire(path: string): Aml {
  return terms(OP.EXTENDED, EXTENDED.ACQUIRE, name(path), ...littleEndian(0xffff, 2));
}

export function release(path: string): Aml {
  return terms(OP.EXTENDED, EXTENDED.RELEASE, name(path));
}

const SYSTEM_IO = 1;

export function ioRegion(path: string, port: number, bytes: number): Aml {
  return terms(OP.EXTENDED, EXTENDED.REGION, name(path), SYSTEM_IO, integer(port), integer(bytes));
}

export const FIELD_ACCESS = { BYTE: 1, WORD: 2, DWORD: 3 } as const;
/** What happens to the bits of an access unit that a write to a field does not cover. */
export const FIELD_UPDATE = { PRESERVE: 0 << 5, WRITE_AS_ZEROS: 2 << 5 } as const;

/** @param units `[name, bits]` in order; a name of '' is a gap */
export function fields(
  region: string,
  access: (typeof FIELD_ACCESS)[keyof typeof FIELD_ACCESS],
  update: (typeof FIELD_UPDATE)[keyof typeof FIELD_UPDATE],
  units: readonly (readonly [name: string, bits: number])[],
): Aml {
  const list = units.map(([unit, bits]) => terms(unit === '' ? 0 : name(unit), ...packageLength(bits)));
  return terms(OP.EXTENDED, EXTENDED.FIELD, sized(name(region), access | update, ...list));
}

/** @param index 0 to 6 */
export function arg(index: number): Aml {
  return terms(OP.ARG0 + index);
}

/** @param index 0 to 7 */
export function local(index: number): Aml {
  return terms(OP.LOCAL0 + index);
}

export function store(value: Aml, target: Aml): Aml {
  return terms(OP.STORE, value, target);
}

export function equal(left: Aml, right: Aml): Aml {
  return terms(OP.EQUAL, left, right);
}

export function ifThen(condition: Aml, ...body: readonly Aml[]): Aml {
  return terms(OP.IF, sized(condition, ...body));
}

/** Follows an `ifThen`. */
export function otherwise(...body: readonly Aml[]): Aml {
  return terms(OP.ELSE, sized(...body));
}

export function whileLoop(condition: Aml, ...body: readonly Aml[]): Aml {
  return terms(OP.WHILE, sized(condition, ...body));
}

export function returns(value: Aml): Aml {
  return terms(OP.RETURN, value);
}

export function notify(object: string, value: Aml): Aml {
  return terms(OP.NOTIFY, name(object), value);
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
