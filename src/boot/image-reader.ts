/**
 * Bounds-checked little-endian reads from an image file. An offset outside the file is an `ImageError` that names the field,
 * so no loader can read past the end whatever the file's headers say.
 *
 * 64-bit fields come back as doubles: exact up to 2^53, and above that still far over any memory size, so the comparisons
 * that follow (sums never wrap) reject them.
 */
import { hex } from '../hex.ts';
import { ImageError } from './image-error.ts';

export class ImageReader {
  readonly bytes: Uint8Array;
  readonly name: string;
  private readonly isCut: boolean;
  private readonly view: DataView;

  /** @param isCut `bytes` are the first of a longer file, as many as the guest's memory holds */
  constructor(bytes: Uint8Array, name: string, isCut = false) {
    this.bytes = bytes;
    this.name = name;
    this.isCut = isCut;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get length(): number {
    return this.bytes.length;
  }

  /** An error about this image, to be thrown by the caller. */
  error(problem: string): ImageError {
    return new ImageError(this.name, problem);
  }

  /** Throws unless `size` bytes at `offset` are inside the file. `what` names them in the message. */
  need(offset: number, size: number, what: string): void {
    if (offset + size > this.length) {
      if (this.isCut) throw this.error(`${what} ends at ${hex(offset + size)} of the file: give the guest more memory`);
      throw this.error(`truncated: ${what} ends at ${hex(offset + size)}, the file at ${hex(this.length)}`);
    }
  }

  u8(offset: number, what: string): number {
    this.need(offset, 1, what);
    return this.view.getUint8(offset);
  }

  u16(offset: number, what: string): number {
    this.need(offset, 2, what);
    return this.view.getUint16(offset, true);
  }

  u32(offset: number, what: string): number {
    this.need(offset, 4, what);
    return this.view.getUint32(offset, true);
  }

  u64(offset: number, what: string): number {
    this.need(offset, 8, what);
    return this.view.getUint32(offset + 4, true) * 2 ** 32 + this.view.getUint32(offset, true);
  }

  /** A view, not a copy, of `size` bytes at `offset`. */
  slice(offset: number, size: number, what: string): Uint8Array {
    this.need(offset, size, what);
    return this.bytes.subarray(offset, offset + size);
  }
}
