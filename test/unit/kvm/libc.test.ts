/** Memory goes to ioctls as memory: no address is to be had, and none outlives its call. */
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as kvm from '../../../src/kvm/index.ts';
import { bytesToPage, ioctl, ioctlWith, ioctlWithPointers, tryIoctl } from '../../../src/kvm/libc.ts';

const ENOTTY = 25;
const EBADF = 9;
let fd = -1;

beforeAll(() => {
  fd = openSync('/dev/null', 'r'); // a descriptor that knows none of KVM's requests
});
afterAll(() => closeSync(fd));

describe('ioctl', () => {
  test('the kernel is asked, and its errno comes back', () => {
    expect(tryIoctl(fd, 'KVM_GET_REGS')).toBe(-ENOTTY);
    expect(tryIoctl(-1, 'KVM_GET_REGS')).toBe(-EBADF);
    expect(() => ioctlWith(fd, 'KVM_CREATE_VCPU', 0x123, 'with APIC ID 0x123')).toThrow(
      /^KVM_CREATE_VCPU with APIC ID 0x123: ENOTTY/,
    );
  });

  test('no number passes as memory, and no request for memory takes a number', () => {
    // @ts-expect-error an address
    const address = (): number => tryIoctl(fd, 'KVM_SET_CPUID2', 0x7fff_0000_0000);
    // @ts-expect-error a request that reads memory
    const value = (): number => ioctlWith(fd, 'KVM_SET_GSI_ROUTING', 0x7fff_0000_0000);
    // @ts-expect-error a request that takes an integer
    const memory = (): number => ioctl(fd, 'KVM_CREATE_VCPU', new Uint8Array(8));
    expect([address, value, memory]).toHaveLength(3);
  });

  test('a pointer inside an argument is there for the call only, also when the call fails', () => {
    const argument = new DataView(new ArrayBuffer(32));
    const to = new Uint8Array(4096);
    const pointers = [8, 24].map((at) => ({ at, to }));
    expect(() => ioctlWithPointers(fd, 'KVM_X86_SET_MSR_FILTER', argument, pointers)).toThrow(/ENOTTY/);
    expect(new Uint8Array(argument.buffer).every((byte) => byte === 0)).toBe(true);
  });

  test('a pointer that would reach beyond its argument is refused', () => {
    const pointers = [{ at: 25, to: new Uint8Array(8) }];
    const argument = new DataView(new ArrayBuffer(32));
    expect(() => ioctlWithPointers(fd, 'KVM_X86_SET_MSR_FILTER', argument, pointers)).toThrow('no room for a pointer');
  });
});

test('more pointers than the addon has room for are refused', () => {
  const pointers = Array.from({ length: 17 }, (_, index) => ({ at: 8 * index, to: new Uint8Array(8) }));
  const argument = new DataView(new ArrayBuffer(256));
  expect(() => ioctlWithPointers(fd, 'KVM_X86_SET_MSR_FILTER', argument, pointers)).toThrow('more than 16 pointers');
});

test('what a thread opened and closed is nothing to its end', async () => {
  const libc = new URL('../../../dist/kvm/libc.js', import.meta.url).href;
  const program = `import(${JSON.stringify(libc)}).then(({ open, closeOpened }) => {
    for (let i = 0; i < 2; i++) closeOpened(open('/dev/null'));
  })`;
  const worker = new Worker(program, { eval: true, stderr: true });
  let errors = '';
  worker.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  await once(worker, 'exit');
  expect(errors).toBe(''); // Node warns of a descriptor that is opened twice and never closed, as it sees it
});

test('bytesToPage: less than a page, and the same for the same memory', () => {
  for (let size = 4096; size < 2 ** 21; size = size * 2 + 4096) {
    const memory = new SharedArrayBuffer(size + 4096);
    const bytes = bytesToPage(memory);
    expect(bytes).toBeGreaterThanOrEqual(0);
    expect(bytes).toBeLessThan(4096);
    expect(bytesToPage(memory)).toBe(bytes);
  }
});

test('what src/kvm shows to others has no way to ask for an address', () => {
  const names = [...Object.keys(kvm), ...Object.keys(kvm.native)];
  expect(names.filter((name) => /address/i.test(name))).toEqual([]);
});
