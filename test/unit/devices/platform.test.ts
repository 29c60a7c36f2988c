// The whole platform without KVM: what the ACPI tables say against what is on the bus, and the platform kept as one.
import { beforeEach, describe, expect, test } from 'vitest';
import { installAcpiTables } from '../../../src/boot/index.ts';
import type { Device } from '../../../src/devices/device.ts';
import { Platform, type PlatformEvent, type PlatformHost } from '../../../src/machine/board/platform.ts';
import { checkOptions, type MachineConfig } from '../../../src/machine/options.ts';
import type { AddressRange } from '../../../src/platform.ts';
import { Random } from './fuzzing.ts';

const MIB = 2 ** 20;
const CONFIG: MachineConfig = checkOptions(
  { memory: 4 * MIB, cpus: [0, 1, 0x23], hotpluggable: [0x123] },
  { maxVcpus: 16, maxVcpuId: 4096, cores: 2 },
);

/** The rest of a machine: a clock, and a log of what came. */
class Host implements PlatformHost {
  nanos = 1_000_000_000;
  extendedDestinations = false;
  log: string[] = [];
  readonly router = {
    deliver: (destination: number, command: number): number => {
      this.log.push(`message ${destination.toString(16)} ${command.toString(16)}`);
      return 1;
    },
    entriesChanged: (): void => {},
  };
  readonly nowNanos = (): number => this.nanos;
  readonly mainIsIdle = (): boolean => true;
  readonly screenMoved = (): void => {};
  report(event: PlatformEvent): void {
    this.log.push(JSON.stringify(event));
  }
}

function make(host: Host, ram = new Uint8Array(CONFIG.memoryBytes)): Platform {
  const platform = new Platform(CONFIG, ram, host);
  for (const [index, apicId] of [...CONFIG.cpus, ...CONFIG.hotpluggable].entries()) {
    platform.addSlot(apicId, index < CONFIG.cpus.length);
  }
  return platform;
}

let host: Host;
let platform: Platform;
beforeEach(() => {
  host = new Host();
  platform = make(host);
});

const IOAPIC = 0xfec0_0000;
/** Writes a redirection entry and raises its pin by the test device. */
function interrupt(pin: number, low: number, high: number): void {
  for (const [index, value] of [[0x11 + 2 * pin, high] as const, [0x10 + 2 * pin, low] as const]) {
    platform.write('mmio', IOAPIC, 4, index);
    platform.write('mmio', IOAPIC + 0x10, 4, value);
  }
  platform.write('pio', 0x2000 + pin, 1, 1);
}

// With the gate off a guest that wrote 0x23020000 reached 0x123: KVM_FEATURE_MSI_EXT_DEST_ID is what promises that.
test.each([
  [false, '23'],
  [true, '123'],
])('extended destinations %s: entry bits 55:49 of an entry for 0x23 send it to 0x%s', (offered, destination) => {
  host.extendedDestinations = offered;
  platform = make(host);
  interrupt(18, 0x81, 0x23020000);
  expect(host.log).toEqual([`message ${destination} 4081`]);
});

test('the power button sets its status bit and raises the SCI once it is enabled', () => {
  interrupt(9, 0x8099, 0);
  platform.write('pio', 0x2009, 1, 0);
  platform.endOfInterrupt(0x99);
  host.log = [];
  platform.write('pio', 0x602, 2, 0x100);
  platform.pressPowerButton();
  expect(platform.read('pio', 0x600, 2)).toBe(0x100);
  expect(host.log).toContain('message 0 c099');
});

test.each([
  ['serial', ['serial:a1b2c3']],
  ['stderr', ['serial:abc', 'debug-output:123']],
  ['off', ['serial:abc']],
] as const)(
  "debug console '%s': what is written to it and to the serial port comes out as %j",
  (debugConsole, outputs) => {
    platform = new Platform({ ...CONFIG, debugConsole }, new Uint8Array(CONFIG.memoryBytes), host);
    const said: string[] = [];
    host.report = (event): void => {
      if (event.type === 'serial' || event.type === 'debug-output')
        said.push(`${event.type}:${Buffer.from(event.bytes)}`);
    };
    for (const [serial, debug] of ['a1', 'b2', 'c3']) {
      platform.write('pio', 0x3f8, 1, serial.charCodeAt(0));
      platform.write('pio', serial === 'b' ? 0x402 : 0xe9, 1, debug.charCodeAt(0));
    }
    host.nanos += 10_000_000;
    expect(platform.deadlineNanos()).toBeLessThanOrEqual(host.nanos);
    platform.advance(host.nanos);
    expect(said).toEqual(outputs);
  },
);

/** Little-endian. */
const word = (bytes: Uint8Array, at: number, size: number): number =>
  bytes.subarray(at, at + size).reduceRight((value, byte) => value * 256 + byte, 0);

describe('the ACPI tables name what is on the bus', () => {
  const ram = new Uint8Array(CONFIG.memoryBytes);
  const cpus = [...CONFIG.cpus, ...CONFIG.hotpluggable].map((apicId) => ({ apicId, present: true }));
  const { rsdpAddress } = installAcpiTables(ram, cpus);
  const table = (address: number) => ram.subarray(address, address + word(ram, address + 4, 4));
  const xsdt = table(word(ram, rsdpAddress + 24, 8));
  const [fadt = ram, madt = ram] = [word(xsdt, 36, 8), word(xsdt, 44, 8)].map(table);
  const dsdt = table(word(fadt, 140, 8));

  const ranges = (name: string): readonly AddressRange[] => deviceOf(name).ranges;
  const deviceOf = (name: string): Device => {
    const device = platform.devices.find((candidate) => candidate.name === name);
    if (device === undefined) throw new Error(`no device '${name}'`);
    return device;
  };
  const extent = ({ base, length }: AddressRange): number[] => [base, length];

  test('FADT: PM1 event and control, PM timer and GPE0 are the ranges of the power management device', () => {
    const blocks = [
      [word(fadt, 56, 4), fadt[88]],
      [word(fadt, 64, 4), fadt[89]],
      [word(fadt, 76, 4), fadt[91]],
      [word(fadt, 80, 4), fadt[92]],
    ];
    expect(blocks).toEqual(ranges('pm').map(extent));
    // The extended fields say the same: a Generic Address Structure each, in I/O space.
    expect([148, 172, 208, 220].map((at) => [fadt[at], word(fadt, at + 4, 8), (fadt[at + 1] ?? 0) / 8])).toEqual(
      blocks.map(([port, length]) => [1, port, length]),
    );
  });

  test('FADT: a write of the reset value to the reset register resets the machine', () => {
    expect([fadt[116], fadt[117]]).toEqual([1, 8]);
    platform.write('pio', word(fadt, 120, 8), 1, fadt[128] ?? 0);
    expect(host.log).toEqual(['{"type":"reset"}']);
  });

  test('FADT: the century is where the clock has it, and the power button is fixed hardware', () => {
    platform.write('pio', 0x70, 1, fadt[108] ?? 0);
    expect(platform.read('pio', 0x71, 1)).toBe(0x20);
    expect(word(fadt, 112, 4) & (1 << 4)).toBe(0);
  });

  test('DSDT: soft off by the sleep type of \\_S5 ends the run', () => {
    const at = Buffer.from(dsdt).indexOf('_S5_');
    const [nameOp, packageOp, , elements, type] = [dsdt[at - 2], ...dsdt.subarray(at + 4, at + 8)];
    expect([nameOp, packageOp, elements]).toEqual([0x08, 0x12, 4]); // Name (\_S5, Package (4) { type ... })
    platform.write('pio', word(fadt, 64, 4), 2, ((type ?? 0) << 10) | (1 << 13));
    expect(host.log).toEqual(['{"type":"power-off"}']);
  });

  test('MADT: the I/O APIC is where the bus has it, and IRQ 0 arrives at the overridden pin', () => {
    const entries: Uint8Array[] = [];
    for (let at = 44; at < madt.length; at += madt[at + 1] ?? 1)
      entries.push(madt.subarray(at, at + (madt[at + 1] ?? 1)));
    const [ioapic] = entries.filter(([type]) => type === 1).map((entry) => [word(entry, 4, 4), word(entry, 8, 4)]);
    expect(ioapic).toEqual([ranges('ioapic')[0]?.base, 0]);
    const overrides = entries
      .filter(([type]) => type === 2)
      .map((entry) => [entry[3], word(entry, 4, 4), word(entry, 8, 2)]);
    for (const [irq = 0, gsi = 0, flags] of overrides) {
      host.log = [];
      interrupt(gsi, 0x40 | gsi | (flags === 0xd ? 0x8000 : 0), 0);
      platform.write('pio', 0x2000 + gsi, 1, 0);
      platform.endOfInterrupt(0x40 | gsi);
      host.log = [];
      platform.write('pio', 0x2000 + irq, 1, 1);
      expect(host.log.filter((line) => line.startsWith('message'))).toHaveLength(1);
      platform.write('pio', 0x2000 + irq, 1, 0);
    }
    expect(overrides.map(([irq]) => irq)).toEqual([0, word(fadt, 46, 2)]);
  });

  /** The I/O port and interrupt descriptors of a named DSDT device's _CRS (small ones: 0x47, 0x22; GSI: 0x89). */
  function resources(name: string): { ports: number[][]; interrupts: number[] } {
    const device = Buffer.from(dsdt).indexOf(name);
    let at = Buffer.from(dsdt).indexOf('_CRS', device) + 4;
    expect([device >= 0, dsdt[at]]).toEqual([true, 0x11]); // Buffer
    at += 1 + ((dsdt[at + 1] ?? 0) >> 6) + 1; // PkgLength
    at += dsdt[at] === 0x0a ? 2 : 1; // the buffer's size
    const ports: number[][] = [];
    const interrupts: number[] = [];
    for (let tag = dsdt[at]; tag !== 0x79; tag = dsdt[at]) {
      if (tag === 0x47) {
        expect(word(dsdt, at + 2, 2)).toBe(word(dsdt, at + 4, 2));
        ports.push([word(dsdt, at + 2, 2), dsdt[at + 7] ?? 0]);
        at += 8;
      } else if (tag === 0x22) {
        interrupts.push(Math.log2(word(dsdt, at + 1, 2)));
        at += 3;
      } else if (tag === 0x89) {
        interrupts.push(word(dsdt, at + 5, 4));
        at += 9;
      } else {
        throw new Error(`descriptor ${tag} in ${name}`);
      }
    }
    return { ports, interrupts };
  }

  /** Which of the 24 pins a device's own line drives, seen at the I/O APIC as `provoke` makes it interrupt. */
  function pinsOf(provoke: () => void): number[] {
    for (let pin = 0; pin < 24; pin++) {
      interrupt(pin, 0x40 + pin, 0);
      platform.write('pio', 0x2000 + pin, 1, 0);
    }
    host.log = [];
    provoke();
    return host.log.flatMap((line) => {
      const vector = /^message 0 40(..)$/.exec(line)?.[1];
      return vector === undefined ? [] : [Number.parseInt(vector, 16) - 0x40];
    });
  }
  const out = (port: number, value: number) => () => platform.write('pio', port, 1, value);

  test.each<[string, string, number[], (() => void)[]]>([
    ['COM1', 'serial', [0], [out(0x3f9, 2)]],
    ['KBD_', 'i8042', [0, 1], [out(0x60, 0xee)]],
    [
      'RTC_',
      'rtc',
      [0],
      [
        out(0x70, 0x0b),
        out(0x71, 0x12),
        () => {
          host.nanos += 2e9;
          platform.advance(host.nanos);
        },
      ],
    ],
    ['PRES', 'cpu-hotplug', [0], []],
    ['SPKR', 'pit', [1], []],
  ])('DSDT: %s has the ports of %s, and the interrupt that it raises', (name, device, which, provocation) => {
    const { ports, interrupts } = resources(name);
    expect(ports).toEqual(which.map((index) => extent(ranges(device)[index] ?? { space: 'pio', base: 0, length: 0 })));
    expect(
      pinsOf(() => {
        for (const step of provocation) step();
      }),
    ).toEqual(interrupts);
  });

  test('DSDT: the timer has the ports of the PIT and IRQ 0, which arrives at pin 2', () => {
    const { ports, interrupts } = resources('TIMR');
    expect([ports, interrupts]).toEqual([[extent(ranges('pit')[0] as AddressRange)], [0]]);
    const pins = pinsOf(() => {
      for (const [port, value] of [
        [0x43, 0x34],
        [0x40, 0],
        [0x40, 0x10],
      ] as const)
        out(port, value)();
      host.nanos += 1e8;
      platform.advance(host.nanos);
    });
    expect(pins).toEqual([2]);
  });

  test('DSDT: fw_cfg spans its ports, and the event device has the interrupt of CPU hotplug', () => {
    const [selector, dma] = ranges('fw-cfg');
    const { ports } = resources('FWCF');
    expect(ports).toEqual([[selector?.base, (dma?.base ?? 0) + (dma?.length ?? 0) - (selector?.base ?? 0)]]);
    expect(pinsOf(() => platform.plug(3))).toEqual(resources('GED_').interrupts);
  });
});

test('a saved platform goes on in another one as it does in the first', () => {
  const random = new Random(7);
  const ports = (target: Platform): number[] =>
    target.devices.flatMap(({ ranges }) => ranges.filter(({ space }) => space === 'pio').map(({ base }) => base));
  const use = (target: Platform, world: Host, seed: number): void => {
    const dice = new Random(seed);
    const bases = ports(target);
    for (let i = 0; i < 3000; i++) {
      const port = (bases[dice.below(bases.length)] ?? 0) + dice.below(4);
      if (port >= 0xcf8 && port <= 0xcfb) continue;
      if (dice.below(2) === 0) target.write('pio', port, 1, dice.below(256));
      else world.log.push(`${port} ${target.read('pio', port, 1)}`);
      if (i % 4 === 0) target.write('mmio', IOAPIC + 16 * dice.below(2), 4, dice.below(0x40));
      if (i % 16 === 0) {
        world.nanos += dice.below(1e7);
        target.advance(world.nanos);
      }
      world.log.push(`deadline ${target.deadlineNanos() - world.nanos}`);
    }
  };
  use(platform, host, random.next());
  const saved = JSON.parse(JSON.stringify(platform.save()));
  const host2 = new Host();
  host2.nanos = host.nanos + 987_654_321;
  const second = make(host2);
  second.restore(saved);
  expect(second.save()).toEqual(saved);
  host.log = [];
  host2.log = [];
  const further = random.next();
  use(platform, host, further);
  use(second, host2, further);
  expect(host2.log.join('\n')).toBe(host.log.join('\n'));
});

test('clocks do not stop for a platform that moves while time passes', () => {
  platform.write('pio', 0x43, 1, 0x34); // counter 0, mode 2, both bytes
  platform.write('pio', 0x40, 1, 0);
  platform.write('pio', 0x40, 1, 0x80);
  const saved = platform.save(host.nanos);
  const second = make(host);
  host.nanos += 5_000_000;
  second.restore(saved, host.nanos - 5_000_000);
  const look = (target: Platform): unknown[] => {
    target.write('pio', 0x43, 1, 0); // latch counter 0
    return [
      target.read('pio', 0x40, 1),
      target.read('pio', 0x40, 1),
      target.read('pio', 0x608, 4),
      target.deadlineNanos(),
    ];
  };
  expect(look(second)).toEqual(look(platform));
});

test('a saved platform that lacks a device is refused by name', () => {
  const { devices, ...saved } = platform.save();
  const { serial: _, ...others } = devices as Record<string, object>;
  expect(() => platform.restore({ ...saved, devices: others })).toThrow("no device 'serial'");
});
