/**
 * C structs as tables: a layout is declared once as a list of fields, and this file gives it C's offsets (each member at
 * its own alignment, x86-64 ABI), a size, and a decoder and encoder. test/unit/kvm/abi.test.ts compares every layout with
 * what the compiler says about <linux/kvm.h>. Little-endian; not for hot paths (KvmRun reads memory through typed arrays).
 */

export interface CType<T> {
  readonly size: number;
  readonly align: number;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: T): void;
}

export const u8: CType<number> = {
  size: 1,
  align: 1,
  read: (view, offset) => view.getUint8(offset),
  write: (view, offset, value) => view.setUint8(offset, value),
};

export const u16: CType<number> = {
  size: 2,
  align: 2,
  read: (view, offset) => view.getUint16(offset, true),
  write: (view, offset, value) => view.setUint16(offset, value, true),
};

export const u32: CType<number> = {
  size: 4,
  align: 4,
  read: (view, offset) => view.getUint32(offset, true),
  write: (view, offset, value) => view.setUint32(offset, value, true),
};

export const u64: CType<bigint> = {
  size: 8,
  align: 8,
  read: (view, offset) => view.getBigUint64(offset, true),
  write: (view, offset, value) => view.setBigUint64(offset, value, true),
};

/** `type name[length]`. A shorter array is padded with what is there (zeroes, when a struct is being encoded). */
export function array<T>(element: CType<T>, length: number): CType<T[]> {
  return {
    size: element.size * length,
    align: element.align,
    read: (view, offset) => Array.from({ length }, (_, i) => element.read(view, offset + i * element.size)),
    write: (view, offset, value) => {
      for (const [i, item] of value.slice(0, length).entries()) element.write(view, offset + i * element.size, item);
    },
  };
}

/** `u8 name[length]`, as a copy of its bytes. */
export function bytes(length: number): CType<Uint8Array> {
  return {
    size: length,
    align: 1,
    read: (view, offset) => new Uint8Array(view.buffer, view.byteOffset + offset, length).slice(),
    write: (view, offset, value) =>
      new Uint8Array(view.buffer, view.byteOffset + offset, length).set(value.subarray(0, length)),
  };
}

type Fields = Readonly<Record<string, CType<unknown>>>;
/** Members with these names have a place in the layout and no value: not decoded, written as zero. */
type Padding = `pad${string}` | `reserved${string}`;
type Decoded<F extends Fields> = { [K in Exclude<keyof F, Padding>]: F[K] extends CType<infer T> ? T : never };

/** What a layout decodes to: `Value<typeof kvmRegs>`. */
export type Value<S> = S extends CType<infer T> ? T : never;

export interface Struct<F extends Fields> extends CType<Decoded<F>> {
  /** The tag in <linux/kvm.h>, or for a member of a union in kvm_run, `kvm_run.<member>`. */
  readonly name: string;
  readonly fields: F;
  readonly offsets: { readonly [K in keyof F]: number };
  /** Encodes a whole struct: what `value` leaves out becomes zero. */
  encode(view: DataView, offset: number, value: Partial<Decoded<F>>): void;
}

export function struct<F extends Fields>(name: string, fields: F): Struct<F> {
  const offsets: Record<string, number> = {};
  const members: { readonly field: string; readonly type: CType<unknown>; readonly at: number }[] = [];
  let end = 0;
  let align = 1;
  // One plain loop: every start of the command declares fifty of them.
  for (const [field, type] of Object.entries(fields)) {
    const at = roundUp(end, type.align);
    offsets[field] = at;
    end = at + type.size;
    if (type.align > align) align = type.align;
    if (!field.startsWith('pad') && !field.startsWith('reserved')) members.push({ field, type, at });
  }
  const size = roundUp(end, align);

  const read = (view: DataView, offset: number): Decoded<F> => {
    const value: Record<string, unknown> = {};
    for (const { field, type, at } of members) value[field] = type.read(view, offset + at);
    return value as Decoded<F>;
  };
  const encode = (view: DataView, offset: number, value: Partial<Decoded<F>>): void => {
    new Uint8Array(view.buffer, view.byteOffset + offset, size).fill(0);
    for (const { field, type, at } of members) {
      const member = (value as Record<string, unknown>)[field];
      if (member !== undefined) type.write(view, offset + at, member);
    }
  };
  return { name, fields, offsets: offsets as Struct<F>['offsets'], size, align, read, encode, write: encode };
}

/** @param to a power of 2 */
function roundUp(value: number, to: number): number {
  return (value + to - 1) & -to;
}
