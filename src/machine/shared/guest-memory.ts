/**
 * Guest RAM: one SharedArrayBuffer, a page larger than asked so that its start can be aligned by hand. Every thread sees
 * the same bytes; the garbage collector owns its life, so nothing is unmapped under a running guest.
 */
import { native } from '../../kvm/native.ts';
import { ConfigError } from '../errors.ts';

const PAGE = 4096;

export class GuestMemory {
  readonly buffer: SharedArrayBuffer;
  /** Guest-physical addresses 0 to `byteLength - 1`. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** Where `bytes[0]` is in this process, page-aligned: what KVM_SET_USER_MEMORY_REGION takes. */
  readonly hostAddress: number;

  /**
   * @param byteLength a multiple of 4096
   * @throws ConfigError when the host has no room for it
   */
  constructor(byteLength: number, buffer?: SharedArrayBuffer) {
    try {
      this.buffer = buffer ?? new SharedArrayBuffer(byteLength + PAGE);
    } catch {
      throw new ConfigError(`this host cannot give a guest ${byteLength / 2 ** 20} MiB of memory; ask for less`);
    }
    const start = Number(native.addressOf(this.buffer));
    const skip = (PAGE - (start % PAGE)) % PAGE;
    this.hostAddress = start + skip;
    this.bytes = new Uint8Array(this.buffer, skip, byteLength);
  }
}
