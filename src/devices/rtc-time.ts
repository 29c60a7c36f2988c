/**
 * The time registers of the MC146818A and their two encodings: register B's bit 2 chooses binary over BCD, bit 1 24 over
 * 12 hours (bit 7 of the hour is then PM). The century is at 0x32, where ACPI's FADT says it is. Dates are Gregorian, UTC.
 */
import { CMOS_CENTURY as CENTURY } from '../platform.ts';

const REG = { SECOND: 0, MINUTE: 2, HOUR: 4, WEEKDAY: 6, DAY: 7, MONTH: 8, YEAR: 9 } as const;
const BINARY = 0x04;
const HOUR_24 = 0x02;
const PM = 0x80;

const TIME_REGISTERS: readonly number[] = [...Object.values(REG), CENTURY];

/** Whether a CMOS index belongs to the running time (not an alarm). */
export function isTimeRegister(index: number): boolean {
  return TIME_REGISTERS.includes(index);
}

/** A register's number; nonsense BCD digits count as they are (0x1f is 25). */
export function decodeField(raw: number, registerB: number, isHour: boolean): number {
  const twelve = isHour && !(registerB & HOUR_24);
  const digits = twelve ? raw & ~PM : raw;
  const value = registerB & BINARY ? digits : (digits >> 4) * 10 + (digits & 15);
  if (!twelve) return value;
  return (value % 12) + (raw & PM ? 12 : 0);
}

function encodeField(value: number, registerB: number): number {
  return registerB & BINARY ? value : (Math.floor(value / 10) << 4) | (value % 10);
}

/** Seconds since 1970 that the registers show. Numbers out of range carry over (second 75 is one minute and 15). */
export function secondsFromFields(cmos: Uint8Array, registerB: number): number {
  const field = (index: number): number => decodeField(cmos[index] ?? 0, registerB, index === REG.HOUR);
  const date = new Date(0);
  date.setUTCFullYear(field(CENTURY) * 100 + field(REG.YEAR), field(REG.MONTH) - 1, field(REG.DAY));
  date.setUTCHours(field(REG.HOUR), field(REG.MINUTE), field(REG.SECOND));
  return Math.floor(date.getTime() / 1000);
}

/** Writes `seconds` since 1970 into the time registers. */
export function encodeTime(cmos: Uint8Array, registerB: number, seconds: number): void {
  const date = new Date(seconds * 1000);
  const put = (index: number, value: number): void => {
    cmos[index] = encodeField(value, registerB);
  };
  put(REG.SECOND, date.getUTCSeconds());
  put(REG.MINUTE, date.getUTCMinutes());
  const hour = date.getUTCHours();
  if (registerB & HOUR_24) put(REG.HOUR, hour);
  else cmos[REG.HOUR] = encodeField(hour % 12 === 0 ? 12 : hour % 12, registerB) | (hour >= 12 ? PM : 0);
  put(REG.WEEKDAY, date.getUTCDay() + 1);
  put(REG.DAY, date.getUTCDate());
  put(REG.MONTH, date.getUTCMonth() + 1);
  put(REG.YEAR, date.getUTCFullYear() % 100);
  put(CENTURY, Math.floor(date.getUTCFullYear() / 100));
}
