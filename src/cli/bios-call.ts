/** A guest's call of a BIOS that is not there, in words. */
import { hex } from '../hex.ts';

const EXCEPTIONS = ['#DE', '#DB', 'NMI', '#BP', '#OF', '#BR', '#UD', '#NM'] as const;
/** From INT 0x10 on. */
const FIRST_SERVICE = 0x10;
const SERVICES = [
  'video',
  'equipment list',
  'memory size',
  'disk',
  'serial port',
  'system services',
  'keyboard',
  'printer',
  'boot failure',
  'bootstrap',
  'time of day',
] as const;

/** @param vector 0-255 @param ax the guest's AX: AH says which function of the service */
export function describeBiosCall(vector: number, ax: number): string {
  const exception = EXCEPTIONS[vector];
  if (exception !== undefined) return `${exception} in real mode came to the firmware's handler, which only returns`;
  const service = SERVICES[vector - FIRST_SERVICE];
  const what = `INT ${hex(vector)}${service === undefined ? '' : ` (${service})`}, AX ${hex(ax)}`;
  return `the guest called the BIOS: ${what}; there is none here but INT 0x10 AH=0xe, so the call returned with CF set`;
}
