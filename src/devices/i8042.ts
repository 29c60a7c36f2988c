/**
 * The 8042 keyboard controller of a PC (IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary Device
 * Controller") with a keyboard that nobody types on, and no mouse: self-tests, configuration byte, output port, A20 and the reset pulse; ports 0x60
 * and 0x64, and system control port A (0x92).
 *
 * The keyboard acknowledges what it is told and answers reset, echo and identify; a mouse does not answer. A20 is stored, and always open in fact: KVM has no gate.
 * The guest pulls the CPU's reset line, which on a PC is INIT (QEMU
 * resets the whole machine). Bit 0 of port 0x92 does so when it goes from 0 to 1 and reads back until `reset`, so a guest can tell INIT from a reset.
 */
import { GSI, PLATFORM } from '../platform.ts';
import type { Board, Device, Line } from './device.ts';

const RANGE = { DATA: 0, COMMAND: 1, PORT_A: 2 } as const;
const STATUS = { OUTPUT_FULL: 0x01, SYSTEM: 0x04, COMMAND: 0x08, NOT_LOCKED: 0x10, AUX_FULL: 0x20 } as const;
const CONFIG = {
  KEYBOARD_IRQ: 0x01,
  MOUSE_IRQ: 0x02,
  SYSTEM: 0x04,
  KEYBOARD_OFF: 0x10,
  MOUSE_OFF: 0x20,
} as const;
const COMMAND = {
  READ_CONFIG: 0x20,
  WRITE_CONFIG: 0x60,
  MOUSE_OFF: 0xa7,
  MOUSE_ON: 0xa8,
  TEST_MOUSE_PORT: 0xa9,
  SELF_TEST: 0xaa,
  TEST_KEYBOARD_PORT: 0xab,
  KEYBOARD_OFF: 0xad,
  KEYBOARD_ON: 0xae,
  READ_INPUT_PORT: 0xc0,
  READ_OUTPUT_PORT: 0xd0,
  WRITE_OUTPUT_PORT: 0xd1,
  WRITE_KEYBOARD_BUFFER: 0xd2,
  WRITE_MOUSE_BUFFER: 0xd3,
  WRITE_MOUSE: 0xd4,
  DISABLE_A20: 0xdd,
  ENABLE_A20: 0xdf,
  READ_TEST_INPUTS: 0xe0,
  PULSE: 0xf0,
} as const;
/** What a keyboard is told, and its answers, of which an acknowledgement comes first but for the echo. */
const KEYBOARD = { ECHO: 0xee, IDENTIFY: 0xf2, RESET: 0xff } as const;
const ACKNOWLEDGED = 0xfa;
const KEYBOARD_ID = [0xab, 0x83] as const;
const KEYBOARD_PASSED = 0xaa;
const SELF_TEST_PASSED = 0x55;
const PORT_TEST_PASSED = 0x00;
/** Input port: keyboard not locked. */
const INPUT_PORT = 0x80;
/** Output port: bit 0 low resets the CPU, bit 1 is A20; 0xc0 are the idle keyboard lines. */
const OUTPUT_PORT = { NOT_RESET: 0x01, A20: 0x02, IDLE: 0xcf } as const;
const PORT_A = { FAST_RESET: 0x01, A20: 0x02 } as const;

interface State {
  status: number;
  config: number;
  outputPort: number;
  fastReset: boolean;
  output: number;
  /** The command whose data byte is due at port 0x60; 0 for none. */
  pending: number;
  /** What the keyboard still has to say, at most three bytes: being told something new, it forgets the rest. */
  keyboard: readonly number[];
  keyboardLine: boolean;
  mouseLine: boolean;
}

function powerUp(): State {
  return {
    status: STATUS.NOT_LOCKED,
    config: CONFIG.KEYBOARD_IRQ,
    outputPort: OUTPUT_PORT.IDLE,
    fastReset: false,
    output: 0,
    pending: 0,
    keyboard: [],
    keyboardLine: false,
    mouseLine: false,
  };
}

const INIT = { type: 'reset', kind: 'init' } as const;

export class I8042 implements Device {
  readonly name = 'i8042';
  readonly ranges = [PLATFORM.KEYBOARD_DATA, PLATFORM.KEYBOARD_COMMAND, PLATFORM.PORT_A];
  readonly #board: Board;
  /** High while the output buffer holds a byte from that side and its interrupt is enabled. */
  readonly #keyboardInterrupt: Line;
  readonly #mouseInterrupt: Line;
  #state = powerUp();

  constructor(board: Board) {
    this.#board = board;
    this.#keyboardInterrupt = board.line(GSI.KEYBOARD);
    this.#mouseInterrupt = board.line(GSI.MOUSE);
  }

  read(rangeIndex: number): number {
    if (rangeIndex === RANGE.COMMAND) return this.#state.status;
    if (rangeIndex === RANGE.PORT_A) return this.#portA();
    const { output } = this.#state; // an empty buffer shows its last byte
    this.#state.status &= ~(STATUS.OUTPUT_FULL | STATUS.AUX_FULL);
    this.#updateLines();
    this.#hearKeyboard();
    return output;
  }

  write(rangeIndex: number, _offset: number, _size: number, value: number): void {
    if (rangeIndex === RANGE.PORT_A) {
      this.#writePortA(value);
    } else if (rangeIndex === RANGE.COMMAND) {
      this.#state.status |= STATUS.COMMAND;
      this.#state.pending = 0;
      this.#command(value);
    } else {
      this.#state.status &= ~STATUS.COMMAND;
      this.#data(value);
    }
  }

  reset(): void {
    const { keyboardLine, mouseLine } = this.#state;
    this.#state = { ...powerUp(), keyboardLine, mouseLine };
    this.#updateLines();
  }

  save(): State {
    return { ...this.#state };
  }

  restore(state: Readonly<State>): void {
    this.#state = { ...state };
  }

  #command(command: number): void {
    const answer = this.#answerTo(command);
    if (answer >= 0) {
      if (command === COMMAND.SELF_TEST) this.#state.status |= STATUS.SYSTEM;
      this.#put(answer, false);
      return;
    }
    switch (command) {
      case COMMAND.WRITE_CONFIG:
      case COMMAND.WRITE_OUTPUT_PORT:
      case COMMAND.WRITE_KEYBOARD_BUFFER:
      case COMMAND.WRITE_MOUSE_BUFFER:
      case COMMAND.WRITE_MOUSE:
        this.#state.pending = command;
        break;
      case COMMAND.MOUSE_OFF:
        this.#setConfig(this.#state.config | CONFIG.MOUSE_OFF);
        break;
      case COMMAND.MOUSE_ON:
        this.#setConfig(this.#state.config & ~CONFIG.MOUSE_OFF);
        break;
      case COMMAND.KEYBOARD_OFF:
        this.#setConfig(this.#state.config | CONFIG.KEYBOARD_OFF);
        break;
      case COMMAND.KEYBOARD_ON:
        this.#setConfig(this.#state.config & ~CONFIG.KEYBOARD_OFF);
        break;
      case COMMAND.ENABLE_A20:
      case COMMAND.DISABLE_A20:
        this.#setA20(command === COMMAND.ENABLE_A20);
        break;
      default:
        // 0xf0-0xff pulse the output port's lines whose bit is 0.
        if (command >= COMMAND.PULSE && !(command & OUTPUT_PORT.NOT_RESET)) this.#board.report(INIT);
    }
  }

  /** What a command puts into the output buffer; -1 for commands that answer nothing. */
  #answerTo(command: number): number {
    switch (command) {
      case COMMAND.READ_CONFIG:
        return this.#state.config;
      case COMMAND.SELF_TEST:
        return SELF_TEST_PASSED;
      case COMMAND.TEST_KEYBOARD_PORT:
      case COMMAND.TEST_MOUSE_PORT:
        return PORT_TEST_PASSED;
      case COMMAND.READ_INPUT_PORT:
        return INPUT_PORT;
      case COMMAND.READ_OUTPUT_PORT:
        return this.#state.outputPort;
      case COMMAND.READ_TEST_INPUTS:
        return 0;
      default:
        return -1;
    }
  }

  #data(value: number): void {
    const command = this.#state.pending;
    this.#state.pending = 0;
    switch (command) {
      case COMMAND.WRITE_CONFIG:
        this.#state.status =
          value & CONFIG.SYSTEM ? this.#state.status | STATUS.SYSTEM : this.#state.status & ~STATUS.SYSTEM;
        this.#setConfig(value);
        break;
      case COMMAND.WRITE_OUTPUT_PORT:
        this.#state.outputPort = value | OUTPUT_PORT.NOT_RESET;
        if (!(value & OUTPUT_PORT.NOT_RESET)) this.#board.report(INIT);
        break;
      case COMMAND.WRITE_KEYBOARD_BUFFER:
      case COMMAND.WRITE_MOUSE_BUFFER:
        this.#put(value, command === COMMAND.WRITE_MOUSE_BUFFER);
        break;
      case COMMAND.WRITE_MOUSE:
        break;
      default:
        this.#tellKeyboard(value);
    }
  }

  /** Telling it something also lets it speak again. */
  #tellKeyboard(value: number): void {
    if (value === KEYBOARD.ECHO) this.#state.keyboard = [KEYBOARD.ECHO];
    else if (value === KEYBOARD.RESET) this.#state.keyboard = [ACKNOWLEDGED, KEYBOARD_PASSED];
    else if (value === KEYBOARD.IDENTIFY) this.#state.keyboard = [ACKNOWLEDGED, ...KEYBOARD_ID];
    else this.#state.keyboard = [ACKNOWLEDGED];
    this.#setConfig(this.#state.config & ~CONFIG.KEYBOARD_OFF);
  }

  /** Its next byte, once there is room and its clock runs. */
  #hearKeyboard(): void {
    const [next, ...rest] = this.#state.keyboard;
    if (next === undefined || this.#state.status & STATUS.OUTPUT_FULL || this.#state.config & CONFIG.KEYBOARD_OFF)
      return;
    this.#state.keyboard = rest;
    this.#put(next, false);
  }

  #put(value: number, fromMouse: boolean): void {
    this.#state.output = value;
    this.#state.status =
      (this.#state.status & ~STATUS.AUX_FULL) | STATUS.OUTPUT_FULL | (fromMouse ? STATUS.AUX_FULL : 0);
    this.#updateLines();
  }

  #setConfig(value: number): void {
    this.#state.config = value;
    this.#updateLines();
    this.#hearKeyboard();
  }

  #portA(): number {
    const a20 = this.#state.outputPort & OUTPUT_PORT.A20 ? PORT_A.A20 : 0;
    return this.#state.fastReset ? a20 | PORT_A.FAST_RESET : a20;
  }

  #writePortA(value: number): void {
    this.#setA20((value & PORT_A.A20) !== 0);
    const rising = (value & PORT_A.FAST_RESET) !== 0 && !this.#state.fastReset;
    this.#state.fastReset = (value & PORT_A.FAST_RESET) !== 0;
    if (rising) this.#board.report(INIT);
  }

  #setA20(open: boolean): void {
    this.#state.outputPort = open
      ? this.#state.outputPort | OUTPUT_PORT.A20
      : this.#state.outputPort & ~OUTPUT_PORT.A20;
  }

  #updateLines(): void {
    const full = (this.#state.status & STATUS.OUTPUT_FULL) !== 0;
    const fromMouse = (this.#state.status & STATUS.AUX_FULL) !== 0;
    const keyboard = full && !fromMouse && (this.#state.config & CONFIG.KEYBOARD_IRQ) !== 0;
    const mouse = full && fromMouse && (this.#state.config & CONFIG.MOUSE_IRQ) !== 0;
    if (keyboard !== this.#state.keyboardLine) {
      this.#state.keyboardLine = keyboard;
      this.#keyboardInterrupt(keyboard);
    }
    if (mouse !== this.#state.mouseLine) {
      this.#state.mouseLine = mouse;
      this.#mouseInterrupt(mouse);
    }
  }
}
