/**
 * How a device keeps its state: in one object with a declared type, so that `reset`, `save` and `restore` are each a whole
 * object of that type, and the compiler names the field that one of them forgets.
 */

/**
 * The same state as JSON can carry it: typed arrays as arrays of numbers. What never happens is `null`, since JSON has no
 * Infinity.
 */
export type Saved<T> = T extends Uint8Array | Uint32Array
  ? readonly number[]
  : T extends object
    ? { readonly [K in keyof T]: Saved<T[K]> }
    : T;

/** A time, or null for never, moved by `nanos`: by `-now` to save it, by `now` to restore it. */
export function moved(time: number | null, nanos: number): number | null {
  return time === null ? null : time + nanos;
}

/** Bytes without the zeros at their end. */
export function savedBytes(bytes: Uint8Array): number[] {
  return [...bytes.subarray(0, bytes.findLastIndex((byte) => byte !== 0) + 1)];
}

/** @param length of the whole, zeros at the end included */
export function restoredBytes(saved: readonly number[], length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  bytes.set(saved.slice(0, length));
  return bytes;
}
