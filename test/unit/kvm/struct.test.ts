import { expect, test } from 'vitest';
import { array, bytes, struct, u8, u16, u32, u64 } from '../../../src/kvm/struct.ts';

const inner = struct('inner', { a: u8, b: u32 });
const outer = struct('outer', { x: u8, y: u16, inner, pad: bytes(3), list: array(u16, 2), z: u64 });

test('members are at their own alignment and the size is a multiple of the largest', () => {
  expect(inner.offsets).toEqual({ a: 0, b: 4 });
  expect(outer.offsets).toEqual({ x: 0, y: 2, inner: 4, pad: 12, list: 16, z: 24 });
  expect([inner.size, outer.size, struct('tail', { a: u64, b: u8 }).size]).toEqual([8, 32, 16]);
});

test('what is encoded is decoded again, without padding, at any offset', () => {
  const view = new DataView(new ArrayBuffer(64));
  const value = { x: 255, y: 0xfffe, inner: { a: 1, b: 0xffff_ffff }, list: [1, 2], z: 0xffff_ffff_ffff_fffen };
  outer.encode(view, 8, value);
  expect(outer.read(view, 8)).toEqual(value);
});

test('what is left out, and padding, is zero whatever was there', () => {
  const view = new DataView(new ArrayBuffer(32));
  new Uint8Array(view.buffer).fill(0xff);
  outer.encode(view, 0, { x: 1 });
  expect([...new Uint8Array(view.buffer)]).toEqual([1, ...new Array<number>(31).fill(0)]);
});
