/**
 * Where the machine's ACPI hardware is: the numbers that the tables tell the guest and that `src/machine/` gives the devices.
 * Ports are those of QEMU's q35 machine where guests know them by heart (0x604: power off; 0xcd8: CPU hotplug).
 */
export const ACPI_PLATFORM = {
  localApicAddress: 0xfee0_0000,
  ioapicAddress: 0xfec0_0000,
  /** bytes: 2 status + 2 enable */
  pm1Event: { port: 0x600, length: 4 },
  /** SCI_EN must read 1: there is no SMI command port to switch modes with */
  pm1Control: { port: 0x604, length: 2 },
  /** 24 bits count, 3.579545 MHz */
  pmTimer: { port: 0x608, length: 4 },
  gpe0: { port: 0x620, length: 16 },
  reset: { port: 0xcf9, value: 6 },
  /** SLP_TYP of soft off: writing `sleepTypeS5 << 10 | 1 << 13` to PM1 control ends the run */
  sleepTypeS5: 0,
  sciGsi: 9,
  cpuHotplug: { port: 0xcd8, length: 12, gsi: 20 },
} as const;

/** One CPU that the machine has or may get. Its position in the list is its selector in the CPU hotplug block. */
export interface AcpiCpu {
  /** 32 bits; also the CPU's ACPI `_UID` */
  readonly apicId: number;
  /** false: may be hot-added later */
  readonly present: boolean;
}
