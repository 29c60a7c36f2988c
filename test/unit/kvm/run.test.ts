/**
 * KvmRun against memory laid out by hand as struct kvm_run (linux/kvm.h): the union is at byte 32, and each member's
 * offsets are written again here.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { KvmRun } from '../../../src/kvm/run.ts';

const UNION = 32;
let memory: DataView<ArrayBuffer>;
let run: KvmRun;

beforeEach(() => {
  memory = new DataView(new ArrayBuffer(12288));
  run = new KvmRun(memory.buffer);
});

const exit = (reason: number): void => memory.setUint32(8, reason, true);
const u32 = (offset: number, value: number): void => memory.setUint32(offset, value, true);
const u64 = (offset: number, value: bigint): void => memory.setBigUint64(offset, value, true);

describe('what goes in', () => {
  test('the interrupt window and immediate exit are bytes 0 and 1', () => {
    run.requestInterruptWindow = true;
    run.immediateExit = true;
    expect([memory.getUint8(0), memory.getUint8(1)]).toEqual([1, 1]);
    run.requestInterruptWindow = false;
    run.immediateExit = false;
    expect([memory.getUint8(0), memory.getUint8(1)]).toEqual([0, 0]);
  });

  test('CR8 is at byte 16', () => {
    run.cr8 = 7;
    expect(memory.getBigUint64(16, true)).toBe(7n);
    expect(run.cr8).toBe(7);
  });
});

test('the header says why, whether an interrupt fits in, and IF', () => {
  exit(7);
  memory.setUint8(12, 1);
  memory.setUint8(13, 1);
  memory.setUint16(14, 2, true);
  u64(24, 0x1_fee0_0900n);
  expect(run.exitReason).toBe(7);
  expect(run.readyForInterruptInjection).toBe(true);
  expect(run.ifFlag).toBe(true);
  expect(run.flags).toBe(2);
  expect([run.apicBaseLow, run.apicBaseHigh]).toEqual([0xfee00900, 1]);
  expect(run.describe()).toBe('KVM_EXIT_IRQ_WINDOW_OPEN');
});

describe('port I/O', () => {
  function io(direction: number, size: number, port: number, count: number): void {
    exit(2);
    memory.setUint8(UNION, direction);
    memory.setUint8(UNION + 1, size);
    memory.setUint16(UNION + 2, port, true);
    u32(UNION + 4, count);
    u64(UNION + 8, 4096n);
  }

  test('a write of three words', () => {
    io(1, 2, 0xcf8, 3);
    for (const [i, value] of [0x1234, 0xfffe, 0x8000].entries()) memory.setUint16(4096 + i * 2, value, true);
    expect([run.ioIsOut, run.ioSize, run.ioPort, run.ioCount, run.ioDataOffset]).toEqual([true, 2, 0xcf8, 3, 4096]);
    expect([0, 1, 2].map((i) => run.ioValue(i))).toEqual([0x1234, 0xfffe, 0x8000]);
    expect(run.describe()).toBe('KVM_EXIT_IO: out port 0xcf8, 3 x 2 bytes');
  });

  test.each([
    [1, 0xab],
    [2, 0xabcd],
    [4, 0xabcd_ef01],
  ])('a read of %i bytes is answered at its own place', (size, value) => {
    io(0, size, 0x60, 2);
    run.setIoValue(1, value);
    expect(run.ioIsOut).toBe(false);
    expect(run.ioValue(1)).toBe(value);
    const bytes = Array.from({ length: size }, (_, i) => memory.getUint8(4096 + size + i) * 2 ** (8 * i));
    expect(bytes.reduce((sum, byte) => sum + byte, 0)).toBe(value);
  });
});

describe('MMIO', () => {
  function mmio(address: bigint, length: number, isWrite: boolean, data: bigint): void {
    exit(6);
    u64(UNION, address);
    u64(UNION + 8, data);
    u32(UNION + 16, length);
    memory.setUint8(UNION + 20, isWrite ? 1 : 0);
  }

  test.each([
    [1, 0x88],
    [2, 0x7788],
    [3, 0x66_7788],
    [4, 0xf566_7788],
  ])('a write of %i bytes is cut to its length', (length, expected) => {
    mmio(0xfee0_0300n, length, true, 0x1122_33f4_f566_7788n);
    expect([run.mmioAddress, run.mmioLength, run.mmioIsWrite]).toEqual([0xfee0_0300, length, true]);
    expect(run.mmioValue()).toBe(expected);
  });

  test('a write of 8 bytes over 4 GiB is two halves', () => {
    mmio(0xf_ffff_ffff_fff8n, 8, true, 0x8122_3344_f566_7788n);
    expect(run.mmioAddress).toBe(0xf_ffff_ffff_fff8);
    expect([run.mmioValue(), run.mmioValueHigh()]).toEqual([0xf566_7788, 0x8122_3344]);
    expect(run.mmioByte(7)).toBe(0x81);
  });

  test('a read is answered in all 8 bytes', () => {
    mmio(0xfee0_0020n, 4, false, 0xffff_ffff_ffff_ffffn);
    run.setMmioValue(0x2300_0000);
    expect(memory.getBigUint64(UNION + 8, true)).toBe(0x2300_0000n);
    run.setMmioByte(7, 0x80);
    expect(memory.getUint8(UNION + 15)).toBe(0x80);
    expect(run.describe()).toBe('KVM_EXIT_MMIO: read of 4 bytes at 0xfee00020');
  });
});

describe('MSRs', () => {
  test('a write brings index, reason and both halves', () => {
    exit(30);
    u32(UNION + 8, 1);
    u32(UNION + 12, 0x830);
    u64(UNION + 16, 0x8000_0123_c000_04f0n);
    expect([run.msrIndex, run.msrReason]).toEqual([0x830, 1]);
    expect([run.msrDataLow, run.msrDataHigh]).toEqual([0xc000_04f0, 0x8000_0123]);
    expect(run.describe()).toBe('KVM_EXIT_X86_WRMSR: MSR 0x830, reason 1');
  });

  test('a read is answered with data, or with #GP', () => {
    exit(29);
    run.msrDataLow = 0xffff_ffff;
    run.msrDataHigh = 1;
    run.msrError = true;
    expect(memory.getBigUint64(UNION + 16, true)).toBe(0x1_ffff_ffffn);
    expect(memory.getUint8(UNION)).toBe(1);
    expect(run.msrError).toBe(true);
    run.msrError = false;
    expect(memory.getUint8(UNION)).toBe(0);
  });
});

describe('the rest', () => {
  test('the emulation error brings the instruction bytes', () => {
    exit(17);
    u32(UNION, 1);
    u32(UNION + 4, 3);
    u64(UNION + 8, 1n);
    memory.setUint8(UNION + 16, 4);
    for (const [i, byte] of [0x48, 0x0f, 0xc7, 0x0f].entries()) memory.setUint8(UNION + 17 + i, byte);
    expect(run.internalSuberror).toBe(1);
    expect([...run.internalInstructionBytes()]).toEqual([0x48, 0x0f, 0xc7, 0x0f]);
    expect(run.describe()).toBe(
      'KVM_EXIT_INTERNAL_ERROR: KVM cannot emulate an instruction, instruction bytes 480fc70f',
    );
  });

  test('an emulation error without bytes, and one that claims too many, stay in bounds', () => {
    exit(17);
    u32(UNION, 1);
    u32(UNION + 4, 0);
    expect(run.internalInstructionBytes()).toHaveLength(0);
    u32(UNION + 4, 0xffff_ffff);
    u64(UNION + 8, 1n);
    memory.setUint8(UNION + 16, 255);
    expect(run.internalInstructionBytes()).toHaveLength(15);
    expect(run.internalData()).toHaveLength(16);
  });

  test('another internal error brings its data', () => {
    exit(17);
    u32(UNION, 4);
    u32(UNION + 4, 2);
    u64(UNION + 8, 0x30n);
    u64(UNION + 16, 0xffff_ffff_ffff_ffffn);
    expect(run.internalData()).toEqual([0x30n, 0xffff_ffff_ffff_ffffn]);
    expect(run.describe()).toBe('KVM_EXIT_INTERNAL_ERROR: unexpected exit reason, data [0x30 0xffffffffffffffff]');
  });

  test('a hypercall has six arguments and a result', () => {
    exit(3);
    u64(UNION, 12n);
    u64(UNION + 8 + 5 * 8, 0x1_0000_0002n);
    run.setHypercallResult(5, 6);
    expect(run.hypercallNumber).toBe(12);
    expect([run.hypercallArgumentLow(5), run.hypercallArgumentHigh(5)]).toEqual([2, 1]);
    expect(memory.getBigUint64(UNION + 56, true)).toBe(0x6_0000_0005n);
  });

  test.each([
    ['KVM_EXIT_UNKNOWN: hardware exit reason 0x21', 0, [0x21]],
    ['KVM_EXIT_EXCEPTION: vector 13, error code 0x18', 1, [13, 0x18]],
    ['KVM_EXIT_DEBUG: exception 1 at 0x100000002, DR6 0x4000', 4, [1, 0, 2, 1, 0x4000, 0]],
    ['KVM_EXIT_HLT', 5, []],
    ['KVM_EXIT_SHUTDOWN', 8, []],
    ['KVM_EXIT_FAIL_ENTRY: hardware entry failure 0x80000021 on host CPU 3', 9, [0x8000_0021, 0, 3]],
    ['KVM_EXIT_INTR', 10, []],
    ['KVM_EXIT_SET_TPR', 11, []],
    ['KVM_EXIT_TPR_ACCESS: write at 0x7c00', 12, [0x7c00, 0, 1]],
    ['KVM_EXIT_SYSTEM_EVENT: type 3, data [0x2 0x1]', 24, [3, 2, 2, 0, 1, 0]],
    ['KVM_EXIT_IOAPIC_EOI: vector 0x31', 26, [0x31]],
    ['KVM_EXIT_X86_BUS_LOCK', 33, []],
    ['KVM_EXIT_NOTIFY: flags 0x1', 37, [1]],
    ['KVM_EXIT_MEMORY_FAULT: 4096 bytes at 0x100000000', 39, [8, 0, 0, 1, 4096, 0]],
    ['exit reason 4711', 4711, []],
  ])('%s', (description, reason, words) => {
    exit(reason);
    for (const [i, word] of words.entries()) u32(UNION + i * 4, word);
    expect(run.describe()).toBe(description);
  });

  test('the EOI exit of a split irqchip brings the vector', () => {
    memory.setUint8(UNION, 0xef);
    expect(run.eoiVector).toBe(0xef);
  });
});
