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
/** Offsets from the start of the table; a name is the specification's in camel case. */
const FADT = {
  firmwareControl: 36,
  dsdt: 40,
  sciInterrupt: 46,
  pm1aEvent: 56,
  pm1aControl: 64,
  pmTimer: 76,
  gpe0: 80,
  pm1EventLength: 88,
  pm1ControlLength: 89,
  pmTimerLength: 91,
  gpe0Length: 92,
  c2Latency: 96,
  c3Latency: 98,
  century: 108,
  bootArchitecture: 109,
  flags: 112,
  resetRegister: 116,
  resetValue: 128,
  minorRevision: 131,
  xDsdt: 140,
  xPm1aEvent: 148,
  xPm1aControl: 172,
  xPmTimer: 208,
  xGpe0: 220,
  size: 276,
} as const;
const FLAG = {
  wbinvd: 1 << 0,
  c1: 1 << 2,
  noSleepButton: 1 << 5,
  noFixedRtc: 1 << 6,
  resetRegister: 1 << 10,
  physicalDestinations: 1 << 19,
} as const;
const BOOT = { legacyDevices: 1 << 0, keyboardController: 1 << 1, noVga: 1 << 2 } as const;
/** Latencies over 100 and 1000 us say that there is no C2 and no C3. */
const NO_C2 = 0xfff;
const NO_C3 = 0xfff;
/** More CPUs than flat logical mode has bits. */
const FLAT_LOGICAL_CPUS = 8;
const SYSTEM_IO = 1;
const ACCESS = { byte: 1, word: 2, dword: 3 } as const;

export function fadt(facsAddress: number, dsdtAddress: number, cpuCount: number): Uint8Array {
  const { PM1_EVENT, PM1_CONTROL, PM_TIMER, GPE0 } = PLATFORM;
  const body = new Uint8Array(FADT.size - HEADER_SIZE);
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

  u32(FADT.firmwareControl, facsAddress);
  u32(FADT.dsdt, dsdtAddress);
  u32(FADT.xDsdt, dsdtAddress);
  u16(FADT.sciInterrupt, GSI.SCI);
  u32(FADT.pm1aEvent, PM1_EVENT.base);
  u8(FADT.pm1EventLength, PM1_EVENT.length);
  gas(FADT.xPm1aEvent, PM1_EVENT.base, PM1_EVENT.length, ACCESS.word);
  u32(FADT.pm1aControl, PM1_CONTROL.base);
  u8(FADT.pm1ControlLength, PM1_CONTROL.length);
  gas(FADT.xPm1aControl, PM1_CONTROL.base, PM1_CONTROL.length, ACCESS.word);
  u32(FADT.pmTimer, PM_TIMER.base);
  u8(FADT.pmTimerLength, PM_TIMER.length);
  gas(FADT.xPmTimer, PM_TIMER.base, PM_TIMER.length, ACCESS.dword);
  u32(FADT.gpe0, GPE0.base);
  u8(FADT.gpe0Length, GPE0.length);
  gas(FADT.xGpe0, GPE0.base, GPE0.length, ACCESS.byte);
  u16(FADT.c2Latency, NO_C2);
  u16(FADT.c3Latency, NO_C3);
  u8(FADT.century, CMOS_CENTURY);
  u16(FADT.bootArchitecture, BOOT.legacyDevices | BOOT.keyboardController | BOOT.noVga);
  const always = FLAG.wbinvd | FLAG.c1 | FLAG.noSleepButton | FLAG.noFixedRtc | FLAG.resetRegister;
  u32(FADT.flags, cpuCount > FLAT_LOGICAL_CPUS ? always | FLAG.physicalDestinations : always);
  gas(FADT.resetRegister, RESET_CONTROL.PORT, 1, ACCESS.byte);
  u8(FADT.resetValue, RESET_CONTROL.HARD_RESET);
  u8(FADT.minorRevision, MINOR_REVISION);
  return systemTable('FACP', REVISION, body);
}
