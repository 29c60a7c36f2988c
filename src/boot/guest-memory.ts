/**
 * Guest RAM while an image is loaded: who has taken which bytes, and the only place in `src/boot/` that writes to RAM.
 * An image says where it wants to be (`place`) and gets an error when that is outside usable RAM or on top of something;
 * what the loader adds (page tables, command line, modules) goes where there is room (`allocate`).
 *
 * All addresses are guest-physical, below the end of `ram`.
 */
import { hex } from '../hex.ts';
import { ImageError } from './image-error.ts';
import { LOW_MEMORY_END, MEMORY_TYPE, type MemoryMapEntry, type MemoryRange, ONE_MIB, overlaps } from './memory-map.ts';

interface Claim extends MemoryRange {
  readonly what: string;
}

/** Where `allocate` may look, and from which end: `up` takes the lowest place that fits, `down` the highest. */
export interface Zone {
  readonly from: number;
  /** exclusive */
  readonly to: number;
  readonly search: 'up' | 'down';
}

const PAGE = 0x1000;

/** Loader data lives at the top of conventional memory: far from the bottom, where guests put their AP trampolines. */
export const LOW_ZONE: Zone = { from: PAGE, to: LOW_MEMORY_END, search: 'down' };

export class GuestMemory {
  readonly ram: Uint8Array;
  readonly map: readonly MemoryMapEntry[];
  private readonly file: string;
  private readonly view: DataView;
  private readonly usable: readonly MemoryRange[];
  private readonly claims: Claim[] = [];

  /** @param file name of the image, for error messages */
  constructor(ram: Uint8Array, map: readonly MemoryMapEntry[], file: string) {
    this.ram = ram;
    this.map = map;
    this.file = file;
    this.view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
    this.usable = map.filter((entry) => entry.type === MEMORY_TYPE.usable && entry.base + entry.size <= ram.length);
  }

  /** Takes exactly `base` to `base + size` for `what`. */
  claim(base: number, size: number, what: string): void {
    const range = { base, size };
    if (!this.isUsable(range)) {
      const where = this.usable.map(extent).join(', ');
      const advice = 'link it elsewhere or give the guest more memory';
      throw new ImageError(this.file, `${what} (${extent(range)}) is outside usable memory (${where}): ${advice}`);
    }
    const other = this.claims.find((claim) => overlaps(claim, range));
    if (other !== undefined) {
      throw new ImageError(this.file, `${what} (${extent(range)}) overlaps ${other.what} (${extent(other)})`);
    }
    this.claims.push({ base, size, what });
  }

  /** Would `claim` succeed? */
  isFree(base: number, size: number): boolean {
    const range = { base, size };
    return this.isUsable(range) && this.isUnclaimed(range);
  }

  /** Where modules go: behind the image, in high memory. */
  above(imageEnd: number): Zone {
    return { from: Math.max(imageEnd, ONE_MIB), to: this.ram.length, search: 'up' };
  }

  /** Puts `bytes` at `base`, followed by zeros up to `size`. */
  place(base: number, bytes: Uint8Array, size: number, what: string): void {
    this.claim(base, size, what);
    this.ram.set(bytes, base);
    this.ram.fill(0, base + bytes.length, base + size);
  }

  /**
   * Finds `size` bytes that nobody has, at a multiple of `align` (a power of two), and takes them as they are.
   * @returns the address
   */
  reserve(size: number, align: number, zone: Zone, what: string): number {
    const base = this.find(size, align, zone);
    if (base === undefined) {
      throw new ImageError(
        this.file,
        `no room for ${what} (${hex(size)} bytes between ${hex(zone.from)} and ${hex(zone.to)}): give the guest more memory`,
      );
    }
    this.claims.push({ base, size, what });
    return base;
  }

  /** `reserve`, zeroed. */
  allocate(size: number, align: number, zone: Zone, what: string): number {
    const base = this.reserve(size, align, zone, what);
    this.ram.fill(0, base, base + size);
    return base;
  }

  /** `reserve` for `bytes` themselves. */
  store(bytes: Uint8Array, align: number, zone: Zone, what: string): number {
    const base = this.reserve(bytes.length, align, zone, what);
    this.ram.set(bytes, base);
    return base;
  }

  setU8(address: number, value: number): void {
    this.view.setUint8(address, value);
  }

  setU16(address: number, value: number): void {
    this.view.setUint16(address, value, true);
  }

  setU32(address: number, value: number): void {
    this.view.setUint32(address, value, true);
  }

  /** @param value 0 to 2^53 */
  setU64(address: number, value: number): void {
    this.view.setUint32(address, value % 2 ** 32, true);
    this.view.setUint32(address + 4, Math.floor(value / 2 ** 32), true);
  }

  private isUsable({ base, size }: MemoryRange): boolean {
    return this.usable.some((entry) => base >= entry.base && base + size <= entry.base + entry.size);
  }

  private isUnclaimed(range: MemoryRange): boolean {
    return !this.claims.some((claim) => overlaps(claim, range));
  }

  /** The lowest or highest free place; only the edges of the zone, of usable ranges and of claims can bound it. */
  private find(size: number, align: number, zone: Zone): number | undefined {
    const up = zone.search === 'up';
    let best: number | undefined;
    for (const range of this.usable) {
      const from = Math.max(zone.from, range.base);
      const to = Math.min(zone.to, range.base + range.size);
      const consider = (edge: number): void => {
        const base = up ? Math.ceil(edge / align) * align : Math.floor(edge / align) * align;
        if (base < from || base + size > to) return;
        if (best !== undefined && (up ? base >= best : base <= best)) return;
        if (this.isUnclaimed({ base, size })) best = base;
      };
      consider(up ? from : to - size);
      for (const claim of this.claims) consider(up ? claim.base + claim.size : claim.base - size);
    }
    return best;
  }
}

/** "first-end", the end exclusive, as a linker map has it. */
function extent({ base, size }: MemoryRange): string {
  return `${hex(base)}-${hex(base + size)}`;
}
