/**
 * The CRT controller's index and data registers of a VGA (ports 0x3d4 and 0x3d5; IBM VGA reference, "CRT Controller
 * Registers"), as far as a text mode needs them: each keeps what was written. There is no picture; the text page at 0xb8000
 * is RAM, and whoever wants to see it reads it there (text-screen.ts), from the start address that this device tells.
 */
import { PLATFORM } from '../platform.ts';
import type { Device } from './device.ts';
import { restoredBytes, type Saved, savedBytes } from './state.ts';

/** 0 to 0x18 are the controller's; index bits above are not decoded. */
const REGISTERS = 0x20;
const INDEX_MASK = REGISTERS - 1;
/** As a BIOS leaves them in mode 3 (80x25): cursor in scan lines 13 and 14, page and cursor at the start. */
const CURSOR = { START: 0x0a, END: 0x0b } as const;
const START_ADDRESS = { HIGH: 0x0c, LOW: 0x0d } as const;

interface State {
  index: number;
  readonly registers: Uint8Array;
}

function powerUp(): State {
  const registers = new Uint8Array(REGISTERS);
  registers[CURSOR.START] = 13;
  registers[CURSOR.END] = 14;
  return { index: 0, registers };
}

export class Crtc implements Device {
  readonly name = 'crtc';
  readonly ranges = [PLATFORM.CRTC];
  readonly #moved: (startCell: number) => void;
  #state = powerUp();

  /** @param moved called with the start address, in cells of the text page (0-0xffff), when it may have changed */
  constructor(moved: (startCell: number) => void) {
    this.#moved = moved;
  }

  read(_rangeIndex: number, offset: number): number {
    return offset === 0 ? this.#state.index : (this.#state.registers[this.#state.index] ?? 0);
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    const { index } = this.#state;
    if (offset === 0) this.#state.index = value & INDEX_MASK;
    else this.#state.registers[index] = value;
    if (offset !== 0 && (index === START_ADDRESS.HIGH || index === START_ADDRESS.LOW)) this.#tell();
  }

  reset(): void {
    this.#state = powerUp();
    this.#tell();
  }

  save(): Saved<State> {
    const { index, registers } = this.#state;
    return { index, registers: savedBytes(registers) };
  }

  restore({ index, registers }: Saved<State>): void {
    this.#state = { index, registers: restoredBytes(registers, REGISTERS) };
    this.#tell();
  }

  #tell(): void {
    const { registers } = this.#state;
    this.#moved(((registers[START_ADDRESS.HIGH] ?? 0) << 8) | (registers[START_ADDRESS.LOW] ?? 0));
  }
}
