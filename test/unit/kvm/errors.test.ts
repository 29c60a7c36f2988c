import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { examine } from '../../../src/kvm/doctor.ts';
import { errnoName, KvmError } from '../../../src/kvm/errors.ts';
import { System } from '../../../src/kvm/system.ts';

describe('KvmError', () => {
  test('names the ioctl, what it was about, and the errno', () => {
    const error = new KvmError('KVM_SET_REGS', 14, 'of vCPU 3');
    expect(error.message).toBe('KVM_SET_REGS of vCPU 3: EFAULT');
    expect(error).toMatchObject({ name: 'KvmError', ioctl: 'KVM_SET_REGS', errno: 14, code: 'EFAULT', remedy: '' });
    expect(error).toBeInstanceOf(Error);
  });

  test.each([
    ['KVM_CREATE_VM', 19, 'ENODEV', /hardware cannot be used/],
    ['KVM_CREATE_VM', 16, 'EBUSY', /another hypervisor/],
    ['KVM_CREATE_VCPU', 17, 'EEXIST', /APIC ID/],
    ['KVM_CREATE_VCPU', 24, 'EMFILE', /ulimit -n/],
    ['KVM_SET_USER_MEMORY_REGION', 28, 'ENOSPC', /slots/],
    ['KVM_GET_SUPPORTED_CPUID', 7, 'E2BIG', /buffer/],
  ])('%s with errno %i says what to do', (ioctl, errno, code, remedy) => {
    const error = new KvmError(ioctl, errno);
    expect(error.code).toBe(code);
    expect(error.remedy).toMatch(remedy);
    expect(error.message).toContain(error.remedy);
  });

  test('an errno nobody knows is still an error', () => {
    expect(errnoName(4711)).toBe('errno 4711');
    expect(new KvmError('KVM_RUN', 4711).message).toBe('KVM_RUN: errno 4711');
  });
});

describe('System.open', () => {
  test('a device that is not there', () => {
    expect(() => System.open('/dev/no-such-kvm')).toThrow(
      /^open \/dev\/no-such-kvm: ENOENT \(.*KVM loaded|ENOENT \(load KVM/,
    );
  });

  test('a file that is not KVM is told by its ioctls', () => {
    const system = System.open('/dev/null');
    try {
      expect(() => system.apiVersion()).toThrow(/^KVM_GET_API_VERSION: ENOTTY/);
    } finally {
      system.close();
    }
  });
});

test('the doctor always has an opinion: what is not ok has a remedy, what is ok has none', async () => {
  const facts = await examine();
  expect(facts.map(({ name }) => name)).toEqual(expect.arrayContaining(['platform', '/dev/kvm', 'open descriptors']));
  for (const { ok, remedy, detail } of facts) {
    expect(remedy === '').toBe(ok);
    expect(detail).not.toBe('');
  }
  if (!existsSync('/dev/kvm')) expect(facts.find(({ name }) => name === '/dev/kvm')?.ok).toBe(false);
});
