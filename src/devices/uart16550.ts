/**
 * A 16550A UART without its surroundings: registers, FIFO and interrupt logic (National Semiconductor PC16550D data
 * sheet, sections 8.1-8.8). `serial.ts` connects it to ports, an interrupt line and the host.
 *
 * The wire is infinitely fast: a byte written to THR has left when the write returns, so THRE and TEMT always read 1, and
 * the "four character times" after which waiting bytes below the trigger level interrupt (character timeout) are zero.
 * Baud rate, parity and stop bits are stored and mean nothing; OUT2 does not gate the interrupt (as in QEMU).
 */
import { restoredBytes, type Saved, savedBytes } from './state.ts';

/** Register offsets; 0 and 1 are the divisor latch while LCR.DLAB is set, 2 is IIR for reads and FCR for writes. */
const REG = { RBR_THR: 0, IER: 1, IIR_FCR: 2, LCR: 3, MCR: 4, LSR: 5, MSR: 6, SCR: 7 } as const;

const IER = { RECEIVED: 0x01, THR_EMPTY: 0x02, LINE_STATUS: 0x04, MODEM_STATUS: 0x08, MASK: 0x0f } as const;
/** In the order of priority, after the low four bits of IIR. */
const IIR = { NONE: 0x1, LINE_STATUS: 0x6, RECEIVED: 0x4, TIMEOUT: 0xc, THR_EMPTY: 0x2, MODEM_STATUS: 0x0 } as const;
const IIR_FIFOS_ENABLED = 0xc0;
const FCR = { ENABLE: 0x01, CLEAR_RECEIVE: 0x02, TRIGGER_SHIFT: 6 } as const;
const LCR_DLAB = 0x80;
const MCR = { DTR: 0x01, RTS: 0x02, OUT1: 0x04, OUT2: 0x08, LOOP: 0x10, MASK: 0x1f } as const;
const LSR = { DATA_READY: 0x01, OVERRUN: 0x02, THR_EMPTY: 0x20, TRANSMITTER_EMPTY: 0x40 } as const;
const MSR = { TERI: 0x04, DELTAS: 0x0f, CTS: 0x10, DSR: 0x20, RI: 0x40, DCD: 0x80 } as const;
/** What the other end of the cable shows: carrier, data set ready, clear to send. */
const CONNECTED = MSR.DCD | MSR.DSR | MSR.CTS;

const FIFO_BYTES = 16;
const TRIGGER_BYTES = [1, 4, 8, 14] as const;
/** 9600 baud from 1.8432 MHz; the data sheet leaves the latch undefined at reset. */
const POWER_UP_DIVISOR = 12;

export interface UartState {
  readonly fifo: Uint8Array;
  fifoHead: number;
  fifoCount: number;
  fifosEnabled: boolean;
  trigger: number;
  ier: number;
  lcr: number;
  mcr: number;
  modemLines: number;
  modemDeltas: number;
  scratch: number;
  divisor: number;
  overrun: boolean;
  thrEmptyPending: boolean;
  line: boolean;
}

function powerUp(): UartState {
  return {
    fifo: new Uint8Array(FIFO_BYTES),
    fifoHead: 0,
    fifoCount: 0,
    fifosEnabled: false,
    trigger: 1,
    ier: 0,
    lcr: 0,
    mcr: 0,
    modemLines: CONNECTED,
    modemDeltas: 0,
    scratch: 0,
    divisor: POWER_UP_DIVISOR,
    overrun: false,
    thrEmptyPending: false,
    line: false,
  };
}

export class Uart16550 {
  readonly #transmit: (byte: number) => void;
  readonly #interrupt: (level: boolean) => void;
  #state: UartState = powerUp();

  /**
   * @param transmit takes each byte that leaves on the wire (not in loopback)
   * @param interrupt the INTR pin; called only when it changes
   */
  constructor(transmit: (byte: number) => void, interrupt: (level: boolean) => void) {
    this.#transmit = transmit;
    this.#interrupt = interrupt;
  }

  /** How many bytes `receive` can take now. 0 in loopback: the receiver is disconnected from the wire. */
  get receiveRoom(): number {
    if (this.#state.mcr & MCR.LOOP) return 0;
    return (this.#state.fifosEnabled ? FIFO_BYTES : 1) - this.#state.fifoCount;
  }

  /** A byte arrives from the wire. The caller looks at `receiveRoom` first; without room the byte is lost (overrun). */
  receive(byte: number): void {
    this.#push(byte);
    this.#update();
  }

  /** @param register 0-7 */
  read(register: number): number {
    switch (register) {
      case REG.RBR_THR:
        return this.#state.lcr & LCR_DLAB ? this.#state.divisor & 0xff : this.#pop();
      case REG.IER:
        return this.#state.lcr & LCR_DLAB ? this.#state.divisor >> 8 : this.#state.ier;
      case REG.IIR_FCR:
        return this.#readIdentification();
      case REG.LCR:
        return this.#state.lcr;
      case REG.MCR:
        return this.#state.mcr;
      case REG.LSR:
        return this.#readLineStatus();
      case REG.MSR:
        return this.#readModemStatus();
      default:
        return this.#state.scratch;
    }
  }

  /** @param register 0-7 */
  write(register: number, value: number): void {
    switch (register) {
      case REG.RBR_THR:
        if (this.#state.lcr & LCR_DLAB) this.#state.divisor = (this.#state.divisor & 0xff00) | value;
        else this.#send(value);
        break;
      case REG.IER:
        if (this.#state.lcr & LCR_DLAB) this.#state.divisor = (this.#state.divisor & 0x00ff) | (value << 8);
        else this.#writeEnable(value & IER.MASK);
        break;
      case REG.IIR_FCR:
        this.#writeFifoControl(value);
        break;
      case REG.LCR:
        this.#state.lcr = value;
        break;
      case REG.MCR:
        this.#state.mcr = value & MCR.MASK;
        this.#updateModemLines();
        break;
      case REG.SCR:
        this.#state.scratch = value;
        break;
      default: // LSR and MSR are read-only (writing LSR is for factory tests)
    }
  }

  reset(): void {
    this.#state = { ...powerUp(), line: this.#state.line };
    this.#update();
  }

  save(): Saved<UartState> {
    const { fifo, ...registers } = this.#state;
    return { ...registers, fifo: savedBytes(fifo) };
  }

  restore({ fifo, ...registers }: Saved<UartState>): void {
    this.#state = { ...registers, fifo: restoredBytes(fifo, FIFO_BYTES) };
  }

  #send(byte: number): void {
    if (this.#state.mcr & MCR.LOOP) this.#push(byte);
    else this.#transmit(byte);
    // Filling THR takes its interrupt back, and emptying it raises it anew: an edge-triggered I/O APIC needs to see both.
    if (this.#state.thrEmptyPending) {
      this.#state.thrEmptyPending = false;
      this.#update();
    }
    this.#state.thrEmptyPending = true;
    this.#update();
  }

  #writeEnable(value: number): void {
    // Enabling the THR interrupt raises it at once while THR is empty, even after IIR was read (not in the data sheet;
    // drivers rely on it to start transmitting).
    if (value & ~this.#state.ier & IER.THR_EMPTY) this.#state.thrEmptyPending = true;
    this.#state.ier = value;
    this.#update();
  }

  #writeFifoControl(value: number): void {
    const enable = (value & FCR.ENABLE) !== 0;
    if (enable !== this.#state.fifosEnabled || (enable && value & FCR.CLEAR_RECEIVE)) this.#clearReceive();
    this.#state.fifosEnabled = enable;
    // The other bits are not programmed while bit 0 is written as 0 (PC16550D 8.5).
    this.#state.trigger = enable ? (TRIGGER_BYTES[value >> FCR.TRIGGER_SHIFT] ?? 1) : 1;
    this.#update();
  }

  #readIdentification(): number {
    const source = this.#highestInterrupt();
    if (source === IIR.THR_EMPTY) {
      this.#state.thrEmptyPending = false;
      this.#update();
    }
    return source | (this.#state.fifosEnabled ? IIR_FIFOS_ENABLED : 0);
  }

  #readLineStatus(): number {
    const ready = this.#state.fifoCount > 0 ? LSR.DATA_READY : 0;
    if (!this.#state.overrun) return LSR.THR_EMPTY | LSR.TRANSMITTER_EMPTY | ready;
    this.#state.overrun = false;
    this.#update();
    return LSR.THR_EMPTY | LSR.TRANSMITTER_EMPTY | LSR.OVERRUN | ready;
  }

  #readModemStatus(): number {
    const value = this.#state.modemLines | this.#state.modemDeltas;
    this.#state.modemDeltas = 0;
    this.#update();
    return value;
  }

  /** In loopback the modem outputs feed the modem inputs: DTR-DSR, RTS-CTS, OUT1-RI, OUT2-DCD. */
  #updateModemLines(): void {
    const before = this.#state.modemLines;
    let lines: number = CONNECTED;
    if (this.#state.mcr & MCR.LOOP) {
      lines = 0;
      if (this.#state.mcr & MCR.DTR) lines |= MSR.DSR;
      if (this.#state.mcr & MCR.RTS) lines |= MSR.CTS;
      if (this.#state.mcr & MCR.OUT1) lines |= MSR.RI;
      if (this.#state.mcr & MCR.OUT2) lines |= MSR.DCD;
    }
    this.#state.modemLines = lines;
    let deltas = ((before ^ lines) >> 4) & MSR.DELTAS;
    if (lines & MSR.RI) deltas &= ~MSR.TERI; // only the trailing edge of RI counts
    this.#state.modemDeltas |= deltas;
    this.#update();
  }

  #push(byte: number): void {
    const size = this.#state.fifosEnabled ? FIFO_BYTES : 1;
    if (this.#state.fifoCount < size) {
      this.#state.fifo[(this.#state.fifoHead + this.#state.fifoCount++) % FIFO_BYTES] = byte;
      return;
    }
    this.#state.overrun = true;
    if (!this.#state.fifosEnabled) this.#state.fifo[this.#state.fifoHead] = byte; // without FIFOs the new byte destroys the old one
  }

  #pop(): number {
    if (this.#state.fifoCount === 0) return 0;
    const byte = this.#state.fifo[this.#state.fifoHead] ?? 0;
    this.#state.fifoHead = (this.#state.fifoHead + 1) % FIFO_BYTES;
    this.#state.fifoCount--;
    this.#update();
    return byte;
  }

  #clearReceive(): void {
    this.#state.fifoHead = 0;
    this.#state.fifoCount = 0;
  }

  #highestInterrupt(): number {
    if (this.#state.ier & IER.LINE_STATUS && this.#state.overrun) return IIR.LINE_STATUS;
    if (this.#state.ier & IER.RECEIVED && this.#state.fifoCount > 0) {
      return this.#state.fifoCount >= this.#state.trigger ? IIR.RECEIVED : IIR.TIMEOUT;
    }
    if (this.#state.ier & IER.THR_EMPTY && this.#state.thrEmptyPending) return IIR.THR_EMPTY;
    if (this.#state.ier & IER.MODEM_STATUS && this.#state.modemDeltas) return IIR.MODEM_STATUS;
    return IIR.NONE;
  }

  #update(): void {
    const level = this.#highestInterrupt() !== IIR.NONE;
    if (level === this.#state.line) return;
    this.#state.line = level;
    this.#interrupt(level);
  }
}
