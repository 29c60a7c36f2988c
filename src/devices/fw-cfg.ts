/**
 * The firmware configuration device of QEMU (docs/specs/fw_cfg.rst): named and numbered items that a guest reads by port
 * (0x510 selector, 0x511 data) or by DMA (0x514). All items are read-only; a DMA write of more than nothing ends
 * with the error bit.
 *
 * A selector without an item, and reading past an item's end, give zeros. DMA moves at most what lies in guest memory: for
 * any other range the operation ends with the error bit, an access structure that is half outside included.
 */
import { PLATFORM } from '../platform.ts';
import type { Board, Device } from './device.ts';

/** Item numbers (QEMU include/standard-headers/linux/qemu_fw_cfg.h and hw/nvram/fw_cfg_keys.h). */
export const FW_CFG = {
  SIGNATURE: 0x00,
  ID: 0x01,
  UUID: 0x02,
  RAM_SIZE: 0x03,
  NOGRAPHIC: 0x04,
  CPU_COUNT: 0x05,
  KERNEL_ADDRESS: 0x07,
  KERNEL_SIZE: 0x08,
  KERNEL_COMMAND_LINE: 0x09,
  INITRD_ADDRESS: 0x0a,
  INITRD_SIZE: 0x0b,
  MAX_CPUS: 0x0f,
  KERNEL_ENTRY: 0x10,
  KERNEL_DATA: 0x11,
  INITRD_DATA: 0x12,
  COMMAND_LINE_ADDRESS: 0x13,
  COMMAND_LINE_SIZE: 0x14,
  COMMAND_LINE_DATA: 0x15,
  SETUP_ADDRESS: 0x16,
  SETUP_SIZE: 0x17,
  SETUP_DATA: 0x18,
  FILE_DIRECTORY: 0x19,
  FIRST_FILE: 0x20,
} as const;

const ITEM_MASK = 0xbfff; // bit 14 asks for write mode, which is gone
const FILE_ENTRY_BYTES = 64;
const FILE_NAME_BYTES = 55;
const ID_TRADITIONAL_AND_DMA = 3;

const RANGE = { PORTS: 0, DMA: 1 } as const;
const DMA = { ERROR: 1, READ: 2, SKIP: 4, SELECT: 8, WRITE: 16 } as const;
/** struct FWCfgDmaAccess, big-endian: control 32, length 32, address 64 bits. */
const DMA_ACCESS_BYTES = 16;
const DMA_CONTROL_BYTES = 4;
const ERROR_BYTES = Uint8Array.of(0, 0, 0, DMA.ERROR);
const DMA_SIGNATURE = 'QEMU CFG';
const TWO_32 = 2 ** 32;

interface State {
  key: number;
  offset: number;
  dmaHigh: number;
}

export class FwCfg implements Device {
  readonly name = 'fw-cfg';
  readonly ranges = [PLATFORM.FW_CFG, PLATFORM.FW_CFG_DMA];
  readonly #board: Board;
  readonly #items = new Map<number, Uint8Array>();
  readonly #files: { readonly name: string; readonly key: number; readonly size: number }[] = [];
  #state: State = { key: FW_CFG.SIGNATURE, offset: 0, dmaHigh: 0 };
  #item: Uint8Array | undefined;

  constructor(board: Board) {
    this.#board = board;
    this.set(FW_CFG.SIGNATURE, new TextEncoder().encode('QEMU'));
    this.setNumber(FW_CFG.ID, ID_TRADITIONAL_AND_DMA, 4);
    this.#writeDirectory();
    this.#select(FW_CFG.SIGNATURE);
  }

  /** Sets an item; its bytes are not copied. @param key 0-0x3fff, or 0x8000-0xbfff for what is x86's own */
  set(key: number, bytes: Uint8Array): void {
    this.#items.set(key & ITEM_MASK, bytes);
    if (key === this.#state.key) this.#item = bytes;
  }

  /** Sets an item to a little-endian number. @param bytes its width, 1-8 */
  setNumber(key: number, value: number, bytes: number): void {
    this.set(
      key,
      Uint8Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) % 256),
    );
  }

  /**
   * Adds a file and lists it in the directory. @returns its item number
   * @throws RangeError if the name is taken, empty, not ASCII or over 55 characters
   */
  addFile(name: string, bytes: Uint8Array): number {
    const usable = /^[\x21-\x7e]+$/.test(name) && name.length <= FILE_NAME_BYTES;
    if (!usable || this.#files.some((file) => file.name === name)) {
      throw new RangeError(
        `fw_cfg file ${JSON.stringify(name)}: name taken, empty, not ASCII or over ${FILE_NAME_BYTES} long`,
      );
    }
    const key = FW_CFG.FIRST_FILE + this.#files.length;
    this.#files.push({ name, key, size: bytes.length });
    this.set(key, bytes);
    this.#writeDirectory();
    return key;
  }

  read(rangeIndex: number, offset: number, size: number): number {
    if (rangeIndex === RANGE.PORTS) return size === 1 ? this.#nextByte() : 0;
    let value = 0;
    for (let i = 0; i < size; i++) value |= DMA_SIGNATURE.charCodeAt(offset + i) << (8 * i);
    return value >>> 0;
  }

  write(rangeIndex: number, offset: number, size: number, value: number): void {
    if (rangeIndex === RANGE.PORTS) {
      if (size === 2) this.#select(value);
    } else if (size === 4 && offset === 0) {
      this.#state.dmaHigh = swap32(value);
    } else if (size === 4 && offset === 4) {
      const address = this.#state.dmaHigh * TWO_32 + swap32(value);
      this.#state.dmaHigh = 0;
      this.#transfer(address);
    }
  }

  /** Items stay: they are the machine's. */
  reset(): void {
    this.#select(FW_CFG.SIGNATURE);
    this.#state.dmaHigh = 0;
  }

  save(): State {
    return { ...this.#state };
  }

  restore(state: Readonly<State>): void {
    this.#state = { ...state };
    this.#item = this.#items.get(state.key);
  }

  #select(key: number): void {
    this.#state.key = key & ITEM_MASK;
    this.#item = this.#items.get(this.#state.key);
    this.#state.offset = 0;
  }

  #nextByte(): number {
    const byte = this.#item?.[this.#state.offset];
    if (byte === undefined) return 0;
    this.#state.offset++;
    return byte;
  }

  #transfer(address: number): void {
    const access = this.#board.ram(address, DMA_ACCESS_BYTES);
    if (access === undefined) {
      this.#board.ram(address, DMA_CONTROL_BYTES)?.set(ERROR_BYTES);
      return;
    }
    const view = new DataView(access.buffer, access.byteOffset, DMA_ACCESS_BYTES);
    const control = view.getUint32(0);
    const length = view.getUint32(4);
    const target = view.getUint32(8) * TWO_32 + view.getUint32(12);
    if (control & DMA.SELECT) this.#select(control >>> 16);
    let failed = false;
    if (control & DMA.READ) failed = !this.#copyTo(target, length);
    else if (control & DMA.WRITE) failed = length > 0;
    else if (control & DMA.SKIP) this.#skip(length);
    view.setUint32(0, failed ? DMA.ERROR : 0);
  }

  #copyTo(gpa: number, length: number): boolean {
    if (length === 0) return true;
    const target = this.#board.ram(gpa, length);
    if (target === undefined) return false;
    const bytes = this.#item?.subarray(this.#state.offset, this.#state.offset + length) ?? new Uint8Array(0);
    target.set(bytes);
    target.fill(0, bytes.length);
    this.#state.offset += bytes.length;
    return true;
  }

  #skip(length: number): void {
    this.#state.offset = Math.min(this.#state.offset + length, this.#item?.length ?? 0);
  }

  #writeDirectory(): void {
    const bytes = new Uint8Array(4 + this.#files.length * FILE_ENTRY_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, this.#files.length);
    this.#files.forEach((file, index) => {
      const entry = 4 + index * FILE_ENTRY_BYTES;
      view.setUint32(entry, file.size);
      view.setUint16(entry + 4, file.key);
      bytes.set(new TextEncoder().encode(file.name), entry + 8);
    });
    this.set(FW_CFG.FILE_DIRECTORY, bytes);
  }
}

/** The DMA address register is big-endian, the ports it is written through are not. */
function swap32(value: number): number {
  return (((value & 0xff) << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}
