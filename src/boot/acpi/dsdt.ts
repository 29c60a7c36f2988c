/**
 * The DSDT: soft off, and CPU hotplug by the register block that QEMU documents as docs/specs/acpi_cpu_hotplug.
 *
 *     \_S5                  soft off
 *     \_SB.COM1 …           the legacy devices, so that an OS that believes only what ACPI names finds them
 *     \_SB.PRES             the register block: CPEN CINS CRMV CEJE CCMD CSEL CDAT under mutex CPLK
 *     \_SB.CPUS             container: CSCN (scan), CTFY (notify), CSTA, CEJ0, COST, and one device C000… for each CPU
 *     \_SB.GED              Generic Event Device (ACPI0013): its interrupt runs CPUS.CSCN
 *
 * A CPU's number in C000… is its position in the list, which is its selector in the block. At most 4,096 (three hex digits).
 */
import { type AddressRange, GSI, PLATFORM, SLEEP_TYPE_S5 } from '../../platform.ts';
import {
  type Aml,
  acquire,
  arg,
  buffer,
  call,
  device,
  eisaId,
  equal,
  FIELD_ACCESS,
  FIELD_UPDATE,
  fields,
  ifThen,
  integer,
  ioPorts,
  ioRegion,
  isaInterrupt,
  levelInterrupt,
  local,
  method,
  mutex,
  name,
  nameDecl,
  notify,
  otherwise,
  packageOf,
  release,
  resources,
  returns,
  scope,
  store,
  string,
  terms,
  whileLoop,
} from './aml.ts';
import type { AcpiCpu } from './cpu.ts';
import { hotPluggedEntry } from './madt.ts';
import { systemTable } from './table.ts';

const REVISION = 2;

/** Register block command numbers. */
const COMMAND = { NEXT_CPU_WITH_EVENT: 0, OST_EVENT: 1, OST_STATUS: 2 } as const;
/** Notification values for devices (ACPI 6.5, table 5.187). */
const NOTIFY = { DEVICE_CHECK: 1, EJECT_REQUEST: 3 } as const;
const STA_WORKING = 0xf;

const LOCK = '\\_SB.PRES.CPLK';
const SELECTOR = name('\\_SB.PRES.CSEL');
const COMMAND_REGISTER = name('\\_SB.PRES.CCMD');
const DATA = name('\\_SB.PRES.CDAT');
const ENABLED = name('\\_SB.PRES.CPEN');
const INSERTED = name('\\_SB.PRES.CINS');
const REMOVAL = name('\\_SB.PRES.CRMV');
const EJECT = name('\\_SB.PRES.CEJE');
const ZERO = integer(0);
const ONE = integer(1);

/** The last one: a process that makes many machines makes most of them alike, and one costs 300 KB of small pieces. */
let last: { readonly of: string; readonly table: Uint8Array } | undefined;

/** @param cpus at most 4,096; the first one cannot be ejected. @returns not to be written to */
export function dsdt(cpus: readonly AcpiCpu[]): Uint8Array {
  const of = JSON.stringify(cpus);
  if (last?.of !== of) last = { of, table: encode(cpus) };
  return last.table;
}

function encode(cpus: readonly AcpiCpu[]): Uint8Array {
  const off = integer(SLEEP_TYPE_S5);
  const body = terms(
    nameDecl('\\_S5', packageOf(off, off, ZERO, ZERO)),
    scope('\\_SB', ...legacyDevices(), registerBlock(), cpuContainer(cpus), eventDevice()),
  );
  return systemTable('DSDT', REVISION, body);
}

function legacyDevices(): Aml[] {
  const { COM1, RTC, KEYBOARD_DATA, KEYBOARD_COMMAND, PIT, PORT_B, FW_CFG, FW_CFG_DMA } = PLATFORM;
  const ports = ({ base, length }: AddressRange): Aml => ioPorts(base, length);
  const fwCfgBytes = FW_CFG_DMA.base + FW_CFG_DMA.length - FW_CFG.base;
  const legacy = (path: string, id: Aml, ...descriptors: readonly Aml[]): Aml =>
    device(path, nameDecl('_HID', id), nameDecl('_CRS', resources(...descriptors)));
  return [
    device(
      'COM1',
      nameDecl('_HID', eisaId('PNP0501')),
      nameDecl('_UID', ONE),
      nameDecl('_CRS', resources(ports(COM1), isaInterrupt(GSI.COM1))),
    ),
    legacy('RTC', eisaId('PNP0B00'), ports(RTC), isaInterrupt(GSI.RTC)),
    legacy('KBD', eisaId('PNP0303'), ports(KEYBOARD_DATA), ports(KEYBOARD_COMMAND), isaInterrupt(GSI.KEYBOARD)),
    legacy('TIMR', eisaId('PNP0100'), ports(PIT), isaInterrupt(GSI.TIMER)),
    legacy('SPKR', eisaId('PNP0800'), ports(PORT_B)),
    legacy('FWCF', string('QEMU0002'), ioPorts(FW_CFG.base, fwCfgBytes)),
  ];
}

function registerBlock(): Aml {
  const { base, length } = PLATFORM.CPU_HOTPLUG;
  return device(
    'PRES',
    nameDecl('_HID', eisaId('PNP0A06')),
    nameDecl('_UID', string('CPU Hotplug resources')),
    nameDecl('_CRS', resources(ioPorts(base, length))),
    mutex('CPLK'),
    ioRegion('PRST', base, length),
    // Flag bits are write-1-to-act, so a write to one must not write the others back.
    fields('PRST', FIELD_ACCESS.BYTE, FIELD_UPDATE.WRITE_AS_ZEROS, [
      ['', 32],
      ['CPEN', 1],
      ['CINS', 1],
      ['CRMV', 1],
      ['CEJE', 1],
      ['', 4],
      ['CCMD', 8],
    ]),
    fields('PRST', FIELD_ACCESS.DWORD, FIELD_UPDATE.PRESERVE, [
      ['CSEL', 32],
      ['', 32],
      ['CDAT', 32],
    ]),
  );
}

function cpuContainer(cpus: readonly AcpiCpu[]): Aml {
  return device(
    'CPUS',
    nameDecl('_HID', string('ACPI0010')),
    nameDecl('_CID', eisaId('PNP0A05')),
    // CTFY(selector, event): Notify needs a name, so the list of CPUs is spelled out.
    method('CTFY', 2, ...cpus.map((_, index) => ifThen(equal(arg(0), integer(index)), notify(cpuName(index), arg(1))))),
    method(
      'CSTA',
      1,
      locked(
        store(arg(0), SELECTOR),
        store(ZERO, local(0)),
        ifThen(equal(ENABLED, ONE), store(integer(STA_WORKING), local(0))),
      ),
      returns(local(0)),
    ),
    method('CEJ0', 1, locked(store(arg(0), SELECTOR), store(ONE, EJECT))),
    method(
      'COST',
      3,
      locked(
        store(arg(0), SELECTOR),
        store(integer(COMMAND.OST_EVENT), COMMAND_REGISTER),
        store(arg(1), DATA),
        store(integer(COMMAND.OST_STATUS), COMMAND_REGISTER),
        store(arg(2), DATA),
      ),
    ),
    scanMethod(),
    ...cpus.map(cpuDevice),
  );
}

/** Asks for the next CPU with an event, tells the OS, clears the event, until the block has none: the interrupt then drops. */
function scanMethod(): Aml {
  const again = local(0);
  const handle = (event: Aml, value: number) =>
    ifThen(equal(event, ONE), call('CTFY', DATA, integer(value)), store(ONE, event), store(ONE, again));
  return method(
    'CSCN',
    0,
    locked(
      store(ONE, again),
      whileLoop(
        equal(again, ONE),
        store(ZERO, again),
        store(integer(COMMAND.NEXT_CPU_WITH_EVENT), COMMAND_REGISTER),
        handle(INSERTED, NOTIFY.DEVICE_CHECK),
        otherwise(handle(REMOVAL, NOTIFY.EJECT_REQUEST)),
      ),
    ),
  );
}

function cpuDevice({ apicId }: AcpiCpu, index: number): Aml {
  const selector = integer(index);
  const ejectable = index > 0;
  return device(
    cpuName(index),
    nameDecl('_HID', string('ACPI0007')),
    nameDecl('_UID', integer(apicId)),
    nameDecl('_MAT', buffer(hotPluggedEntry(apicId))),
    method('_STA', 0, returns(call('CSTA', selector))),
    ...(ejectable ? [method('_EJ0', 1, call('CEJ0', selector))] : []),
    method('_OST', 3, call('COST', selector, arg(0), arg(1))),
  );
}

function eventDevice(): Aml {
  const gsi = integer(GSI.CPU_HOTPLUG);
  return device(
    'GED',
    nameDecl('_HID', string('ACPI0013')),
    nameDecl('_UID', ZERO),
    nameDecl('_CRS', resources(levelInterrupt(GSI.CPU_HOTPLUG))),
    method('_EVT', 1, ifThen(equal(arg(0), gsi), call('\\_SB.CPUS.CSCN'))),
  );
}

function locked(...body: readonly Aml[]): Aml {
  return terms(acquire(LOCK), ...body, release(LOCK));
}

function cpuName(index: number): string {
  return `C${index.toString(16).toUpperCase().padStart(3, '0')}`;
}
