/**
 * Guest RAM: one SharedArrayBuffer, a page larger than asked so that its start can be aligned by hand. Every thread sees
 * the same bytes; the garbage collector owns its life, so nothing is unmapped under a running guest.
 */
import { bytesToPage } from '../../kvm/libc.ts';
import { ConfigError } from '../errors.ts';

const PAGE = 4096;

export class GuestMemory {
  /** Guest-physical addresses 0 to `byteLength - 1`; begins on a page, as KVM_SET_USER_MEMORY_REGION wants it. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;

  /**
   * @param byteLength a multiple of 4096
   * @throws ConfigError when the host has no room for it
   */
  constructor(byteLength: number) {
    let buffer: SharedArrayBuffer;
    try {
      buffer = new SharedArrayBuffer(byteLength + PAGE);
    } catch {
      throw new ConfigError(`this host cannot give a guest ${byteLength / 2 ** 20} MiB of memory; ask for less`);
    }
    this.bytes = new Uint8Array(buffer, bytesToPage(buffer), byteLength);
  }
}
