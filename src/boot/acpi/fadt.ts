/**
 * Fixed ACPI Description Table, revision 6 (ACPI 6.5, 5.2.9): where the fixed hardware is. There is no SMI command port, so
 * the machine is always in ACPI mode. The power button is fixed hardware; the sleep button is said to be a
 * control-method device, of which there is none.
 */
import { CMOS_CENTURY, GSI, PLATFORM, RESET_CONTROL } from '../../platform.ts';
import { systemTable } from './table.ts';

const REVISION = 6;
const MINOR_REVISION = 5;
const HEADER_SIZE = 36;
/** Offsets from the start of the table; a name is the specification's, spelled out. */
const FADT = {
  FIRMWARE_CONTROL: 36,
  DSDT: 40,
  SCI_INTERRUPT: 46,
  PM1A_EVENT: 56,
  PM1A_CONTROL: 64,
  PM_TIMER: 76,
  GPE0: 80,
  PM1_EVENT_LENGTH: 88,
  PM1_CONTROL_LENGTH: 89,
  PM_TIMER_LENGTH: 91,
  GPE0_LENGTH: 92,
  C2_LATENCY: 96,
  C3_LATENCY: 98,
  CENTURY: 108,
  BOOT_ARCHITECTURE: 109,
  FLAGS: 112,
  RESET_REGISTER: 116,
  RESET_VALUE: 128,
  MINOR_REVISION: 131,
  X_DSDT: 140,
  X_PM1A_EVENT: 148,
  X_PM1A_CONTROL: 172,
  X_PM_TIMER: 208,
  X_GPE0: 220,
  SIZE: 276,
} as const;
const FLAG = {
  WBINVD: 1 << 0,
  C1: 1 << 2,
  NO_SLEEP_BUTTON: 1 << 5,
  NO_FIXED_RTC: 1 << 6,
  RESET_REGISTER: 1 << 10,
  PHYSICAL_DESTINATIONS: 1 << 19,
} as const;
const BOOT = { LEGACY_DEVICES: 1 << 0, KEYBOARD_CONTROLLER: 1 << 1, NO_VGA: 1 << 2 } as const;
/** Latencies over 100 and 1000 us say that there is no C2 and no C3. */
const NO_C2 = 0xfff;
const NO_C3 = 0xfff;
/** More CPUs than flat logical mode has bits. */
const FLAT_LOGICAL_CPUS = 8;
const SYSTEM_IO = 1;
const ACCESS = { BYTE: 1, WORD: 2, DWORD: 3 } as const;

export function fadt(facsAddress: number, dsdtAddress: number, cpuCount: number): Uint8Array {
  const { PM1_EVENT, PM1_CONTROL, PM_TIMER, GPE0 } = PLATFORM;
  const body = new Uint8Array(FADT.SIZE - HEADER_SIZE);
  const view = new DataView(body.buffer);
  const u8 = (offset: number, value: number) => view.setUint8(offset - HEADER_SIZE, value);
  const u16 = (offset: number, value: number) => view.setUint16(offset - HEADER_SIZE, value, true);
  const u32 = (offset: number, value: number) => view.setUint32(offset - HEADER_SIZE, value, true);
  /** Generic Address Structure: space, width in bits, bit offset, access size, 64-bit address. */
  const gas = (offset: number, port: number, bytes: number, access: number) => {
    [SYSTEM_IO, bytes * 8, 0, access].forEach((value, index) => {
      u8(offset + index, value);
    });
    u32(offset + 4, port);
  };

  u32(FADT.FIRMWARE_CONTROL, facsAddress);
  u32(FADT.DSDT, dsdtAddress);
  u32(FADT.X_DSDT, dsdtAddress);
  u16(FADT.SCI_INTERRUPT, GSI.SCI);
  u32(FADT.PM1A_EVENT, PM1_EVENT.base);
  u8(FADT.PM1_EVENT_LENGTH, PM1_EVENT.length);
  gas(FADT.X_PM1A_EVENT, PM1_EVENT.base, PM1_EVENT.length, ACCESS.WORD);
  u32(FADT.PM1A_CONTROL, PM1_CONTROL.base);
  u8(FADT.PM1_CONTROL_LENGTH, PM1_CONTROL.length);
  gas(FADT.X_PM1A_CONTROL, PM1_CONTROL.base, PM1_CONTROL.length, ACCESS.WORD);
  u32(FADT.PM_TIMER, PM_TIMER.base);
  u8(FADT.PM_TIMER_LENGTH, PM_TIMER.length);
  gas(FADT.X_PM_TIMER, PM_TIMER.base, PM_TIMER.length, ACCESS.DWORD);
  u32(FADT.GPE0, GPE0.base);
  u8(FADT.GPE0_LENGTH, GPE0.length);
  gas(FADT.X_GPE0, GPE0.base, GPE0.length, ACCESS.BYTE);
  u16(FADT.C2_LATENCY, NO_C2);
  u16(FADT.C3_LATENCY, NO_C3);
  u8(FADT.CENTURY, CMOS_CENTURY);
  u16(FADT.BOOT_ARCHITECTURE, BOOT.LEGACY_DEVICES | BOOT.KEYBOARD_CONTROLLER | BOOT.NO_VGA);
  const always = FLAG.WBINVD | FLAG.C1 | FLAG.NO_SLEEP_BUTTON | FLAG.NO_FIXED_RTC | FLAG.RESET_REGISTER;
  u32(FADT.FLAGS, cpuCount > FLAT_LOGICAL_CPUS ? always | FLAG.PHYSICAL_DESTINATIONS : always);
  gas(FADT.RESET_REGISTER, RESET_CONTROL.PORT, 1, ACCESS.BYTE);
  u8(FADT.RESET_VALUE, RESET_CONTROL.HARD_RESET);
  u8(FADT.MINOR_REVISION, MINOR_REVISION);
  return systemTable('FACP', REVISION, body);
}
