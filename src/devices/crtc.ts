/**
 * The CRT controller's index and data registers of a VGA (ports 0x3d4 and 0x3d5; IBM VGA reference, "CRT Controller
 * Registers"), as far as a text mode needs them: each keeps what was written. There is no picture; the text page at 0xb8000
 * is RAM, and whoever wants to see it reads it there.
 */
import { PLATFORM } from '../platform.ts';
import type { Device } from './device.ts';
import { restoredBytes, type Saved, savedBytes } from './state.ts';

/** 0 to 0x18 are the controller's; index bits above are not decoded. */
const REGISTERS = 0x20;
const INDEX_MASK = REGISTERS - 1;
/** As a BIOS leaves them in mode 3 (80x25): cursor in scan lines 13 and 14, page and cursor at the start. */
const CURSOR = { START: 0x0a, END: 0x0b } as const;

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
  #state = powerUp();

  read(_rangeIndex: number, offset: number): number {
    return offset === 0 ? this.#state.index : (this.#state.registers[this.#state.index] ?? 0);
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    if (offset === 0) this.#state.index = value & INDEX_MASK;
    else this.#state.registers[this.#state.index] = value;
  }

  reset(): void {
    this.#state = powerUp();
  }

  save(): Saved<State> {
    const { index, registers } = this.#state;
    return { index, registers: savedBytes(registers) };
  }

  restore({ index, registers }: Saved<State>): void {
    this.#state = { index, registers: restoredBytes(registers, REGISTERS) };
  }
}
