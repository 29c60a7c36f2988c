/**
 * KVM's own counters of a vCPU, by KVM_GET_STATS_FD (Documentation/virt/kvm/api.rst, 4.129; Linux 5.14): a file that holds a
 * header, a list of descriptors with names, and the values. Read now and then, so the file is opened for each look and
 * nothing is kept.
 */
import { readSync } from 'node:fs';
import { close, ioctlWith } from './libc.ts';

/** struct kvm_stats_header: u32 flags, name_size, num_desc, id_offset, desc_offset, data_offset. */
const HEADER_BYTES = 24;
const HEADER = { NAME_SIZE: 4, DESCRIPTORS: 8, DESCRIPTORS_AT: 16, DATA_AT: 20 } as const;
/** struct kvm_stats_desc: u32 flags, s16 exponent, u16 size, u32 offset, u32 bucket_size, then the name. */
const DESCRIPTOR_BYTES = 16;
const DESCRIPTOR = { SIZE: 6, OFFSET: 8 } as const;
const VALUE_BYTES = 8;
/** The kernel has about 60, of 48 bytes of name each. */
const MAX_DESCRIPTOR_BYTES = 65_536;

/**
 * Not while another thread is in KVM_RUN with this vCPU: the ioctl would wait for it.
 * @param fd the vCPU's descriptor
 * @param wanted names such as 'exits', 'halt_exits', 'irq_injections'
 * @returns those that this kernel counts, or undefined where it has no such file
 */
export function readVcpuStats(fd: number, wanted: readonly string[]): Record<string, number> | undefined {
  let stats = -1;
  try {
    stats = ioctlWith(fd, 'KVM_GET_STATS_FD', 0);
    return readStats(stats, wanted);
  } catch {
    return undefined; // an older kernel, or a sandbox
  } finally {
    if (stats >= 0) close(stats);
  }
}

/** The same of a file that has this format. @param fd of the file */
export function readStats(fd: number, wanted: readonly string[]): Record<string, number> | undefined {
  const header = readAt(fd, 0, HEADER_BYTES);
  const entryBytes = DESCRIPTOR_BYTES + header.getUint32(HEADER.NAME_SIZE, true);
  const count = header.getUint32(HEADER.DESCRIPTORS, true);
  if (entryBytes * count > MAX_DESCRIPTOR_BYTES) return undefined;
  const list = readAt(fd, header.getUint32(HEADER.DESCRIPTORS_AT, true), entryBytes * count);
  const dataAt = header.getUint32(HEADER.DATA_AT, true);
  const values: Record<string, number> = {};
  for (let at = 0; at < list.byteLength; at += entryBytes) {
    const [name] = Buffer.from(list.buffer, list.byteOffset + at + DESCRIPTOR_BYTES, entryBytes - DESCRIPTOR_BYTES)
      .toString('latin1')
      .split('\0', 1);
    if (name === undefined || !wanted.includes(name) || list.getUint16(at + DESCRIPTOR.SIZE, true) !== 1) continue;
    const value = readAt(fd, dataAt + list.getUint32(at + DESCRIPTOR.OFFSET, true), VALUE_BYTES);
    values[name] = Number(value.getBigUint64(0, true));
  }
  return values;
}

/** @throws RangeError when the file ends before */
function readAt(fd: number, position: number, length: number): DataView {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const got = readSync(fd, bytes, done, length - done, position + done);
    if (got === 0) throw new RangeError('KVM statistics end early');
    done += got;
  }
  return new DataView(bytes.buffer);
}
