/**
 * The CPU hotplug register block that QEMU documents as "modern" ACPI CPU hotplug (docs/specs/acpi_cpu_hotplug.rst), at
 * the I/O port of its q35 machine (ICH9 LPC, 0x0cd8, 12 ports). Little-endian; only the offsets below decode, at any
 * access size; everything else reads 0 and ignores writes.
 *
 *     offset  read                                        write
 *     0x0     command 3: APIC ID bits 63:32, else 0       selector: slot that the other registers speak of
 *     0x4     flags                                       flags: acknowledge an event, eject
 *     0x5     0                                           command (above 3: ignored)
 *     0x8     command 0: selector; 3: APIC ID 31:0        command 1: OST event; 2: OST status, reported
 *
 *     flags   0 enabled   1 insert event (write 1: clear)   2 remove event (write 1: clear)   3 eject   4 eject by firmware
 *
 * One write of the flags does one thing: the lowest of bits 1-4 that is set. While the selector is out of range reads
 * are 0 and writes do nothing, apart from the selector's own. There is no legacy mode to leave: writing 0 to the selector,
 * which is how guests switch it off, only selects slot 0.
 *
 * Where this is stricter than QEMU: an eject takes effect only if a removal was asked for and has not happened yet. The
 * request outlives the guest's acknowledgement of the remove event, which comes first (an ACPI method clears the event,
 * then the OS runs _EJ0). Slots, events and requests belong to the machine and survive a reset, as in QEMU.
 */
import { GSI, PLATFORM } from '../platform.ts';
import type { Board, Device, Line } from './device.ts';

const REG = { SELECTOR: 0x0, FLAGS: 0x4, COMMAND: 0x5, DATA: 0x8 } as const;
const FLAG = { ENABLED: 1, INSERT: 2, REMOVE: 4, EJECT: 8, FIRMWARE_EJECT: 16 } as const;
const COMMAND = { NEXT_WITH_EVENT: 0, OST_EVENT: 1, OST_STATUS: 2, ARCHITECTURE_ID: 3 } as const;

interface Slot {
  readonly apicId: number;
  enabled: boolean;
  insertEvent: boolean;
  removeEvent: boolean;
  firmwareEject: boolean;
  removalAsked: boolean;
  ostEvent: number;
}

interface State {
  slots: Slot[];
  selector: number;
  command: number;
  line: boolean;
}

export class CpuHotplug implements Device {
  readonly name = 'cpu-hotplug';
  readonly ranges = [PLATFORM.CPU_HOTPLUG];
  readonly #board: Board;
  /** High while any slot has an insert or remove event that the guest has not acknowledged. */
  readonly #interrupt: Line;
  #state: State = { slots: [], selector: 0, command: 0, line: false };

  constructor(board: Board) {
    this.#board = board;
    this.#interrupt = board.line(GSI.CPU_HOTPLUG);
  }

  /** The number of slots: possible CPUs, present or not. */
  get slots(): number {
    return this.#state.slots.length;
  }

  /** Adds a possible CPU. @param apicId unsigned 32 bits @returns its slot, counted from 0 */
  addSlot(apicId: number, enabled: boolean): number {
    const slot: Slot = {
      apicId: apicId >>> 0,
      enabled,
      insertEvent: false,
      removeEvent: false,
      firmwareEject: false,
      removalAsked: false,
      ostEvent: 0,
    };
    return this.#state.slots.push(slot) - 1;
  }

  /** @returns whether slot `index` holds a CPU */
  isEnabled(index: number): boolean {
    return this.#state.slots[index]?.enabled ?? false;
  }

  /** A CPU was put into a slot: tell the guest. @returns false if there is no such slot or it holds a CPU already */
  plug(index: number): boolean {
    const slot = this.#state.slots[index];
    if (slot === undefined || slot.enabled) return false;
    slot.enabled = true;
    slot.insertEvent = true;
    this.#updateLine();
    return true;
  }

  /** Asks the guest to give a CPU back; asking again repeats the event. @returns false if the slot holds no CPU */
  requestUnplug(index: number): boolean {
    const slot = this.#state.slots[index];
    if (slot === undefined || !slot.enabled) return false;
    slot.removalAsked = true;
    slot.removeEvent = true;
    this.#updateLine();
    return true;
  }

  read(_rangeIndex: number, offset: number, size: number): number {
    const slot = this.#state.slots[this.#state.selector];
    if (slot === undefined) return 0;
    if (offset === REG.FLAGS) return flagsOf(slot);
    if (offset !== REG.DATA) return 0; // "data 2" (offset 0) is the upper half of an ID that has 32 bits: 0 as well
    const value =
      this.#state.command === COMMAND.ARCHITECTURE_ID
        ? slot.apicId
        : this.#state.command === 0
          ? this.#state.selector
          : 0;
    return size === 4 ? value : value & (size === 2 ? 0xffff : 0xff);
  }

  write(_rangeIndex: number, offset: number, _size: number, value: number): void {
    if (offset === REG.SELECTOR) {
      this.#state.selector = value;
      return;
    }
    const slot = this.#state.slots[this.#state.selector];
    if (slot === undefined) return;
    if (offset === REG.FLAGS) this.#writeFlags(slot, value);
    else if (offset === REG.COMMAND) this.#writeCommand(value);
    else if (offset === REG.DATA) this.#writeData(slot, value);
  }

  /** Selector and command go back to 0; see the header for what stays. */
  reset(): void {
    this.#state.selector = 0;
    this.#state.command = 0;
    this.#updateLine();
  }

  save(): State {
    const { slots, ...registers } = this.#state;
    return { ...registers, slots: slots.map((slot) => ({ ...slot })) };
  }

  /** The slots are those that were saved. */
  restore({ slots, ...registers }: Readonly<State>): void {
    this.#state = { ...registers, slots: slots.map((slot) => ({ ...slot })) };
  }

  #writeFlags(slot: Slot, value: number): void {
    if (value & FLAG.INSERT) slot.insertEvent = false;
    else if (value & FLAG.REMOVE) slot.removeEvent = false;
    else if (value & FLAG.EJECT) this.#eject(slot);
    else if (value & FLAG.FIRMWARE_EJECT && slot.removalAsked) slot.firmwareEject = !slot.firmwareEject;
    this.#updateLine();
  }

  #eject(slot: Slot): void {
    if (!slot.enabled || !slot.removalAsked) return;
    slot.enabled = false;
    slot.insertEvent = false;
    slot.removeEvent = false;
    slot.firmwareEject = false;
    slot.removalAsked = false;
    this.#board.report({ type: 'ejected', slot: this.#state.selector });
  }

  #writeCommand(command: number): void {
    if (command > COMMAND.ARCHITECTURE_ID) return;
    this.#state.command = command;
    if (command !== COMMAND.NEXT_WITH_EVENT) return;
    const count = this.#state.slots.length;
    for (let step = 0; step < count; step++) {
      const index = (this.#state.selector + step) % count;
      const slot = this.#state.slots[index];
      if (slot !== undefined && (slot.insertEvent || slot.removeEvent || slot.firmwareEject)) {
        this.#state.selector = index;
        return;
      }
    }
  }

  #writeData(slot: Slot, value: number): void {
    if (this.#state.command === COMMAND.OST_EVENT) slot.ostEvent = value;
    else if (this.#state.command === COMMAND.OST_STATUS) {
      this.#board.report({ type: 'ost', slot: this.#state.selector, event: slot.ostEvent, status: value });
    }
  }

  #updateLine(): void {
    const level = this.#state.slots.some((slot) => slot.insertEvent || slot.removeEvent);
    if (level === this.#state.line) return;
    this.#state.line = level;
    this.#interrupt(level);
  }
}

function flagsOf(slot: Slot): number {
  let flags = slot.enabled ? FLAG.ENABLED : 0;
  if (slot.insertEvent) flags |= FLAG.INSERT;
  if (slot.removeEvent) flags |= FLAG.REMOVE;
  if (slot.firmwareEject) flags |= FLAG.FIRMWARE_EJECT;
  return flags;
}
