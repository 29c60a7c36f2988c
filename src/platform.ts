/**
 * Where everything is in this PC: I/O ports, guest-physical addresses and interrupt numbers. The one source of them: the
 * devices answer here, the wiring runs here, and the ACPI tables say so to the guest.
 *
 * Ports are a PC's, or those of QEMU's q35 machine where guests know them by heart (0x604: power off; 0xcd8: CPU hotplug).
 */

/** Where a device answers: `base` and `length` are in bytes (I/O ports 0-0xffff, or a guest-physical address). */
export interface AddressRange {
  readonly space: 'pio' | 'mmio';
  readonly base: number;
  readonly length: number;
  /**
   * The widest access the device decodes, in bytes (default 4). The bus cuts wider ones into consecutive accesses of this
   * size, low address first, as a PC does for an 8-bit ISA device: `outw` to port 0x70 writes 0x70 and then 0x71.
   */
  readonly maxAccess?: 1 | 2 | 4;
}

const ports = (base: number, length: number): AddressRange => ({ space: 'pio', base, length });
/** Ports of a device that decodes bytes only. */
const bytePorts = (base: number, length: number): AddressRange => ({ space: 'pio', base, length, maxAccess: 1 });
const memory = (base: number, length: number): AddressRange => ({ space: 'mmio', base, length });

export const PLATFORM = {
  PIC_MASTER: bytePorts(0x20, 2),
  PIT: bytePorts(0x40, 4),
  KEYBOARD_DATA: bytePorts(0x60, 1),
  /** System control port B: counter 2's gate and output, speaker. */
  PORT_B: bytePorts(0x61, 1),
  KEYBOARD_COMMAND: bytePorts(0x64, 1),
  RTC: bytePorts(0x70, 2),
  /** System control port A: A20 and the fast reset. */
  PORT_A: bytePorts(0x92, 1),
  PIC_SLAVE: bytePorts(0xa0, 2),
  TEST_SCRATCH: ports(0xe0, 4),
  TEST_FLUSH: ports(0xe4, 4),
  TEST_SCRATCH_BYTES: bytePorts(0xe8, 1),
  TEST_SCRATCH_HIGH_BYTES: bytePorts(0xea, 2),
  DEBUG_CONSOLE_BOCHS: bytePorts(0xe9, 1),
  DEBUG_EXIT: ports(0xf4, 4),
  /** Index and data registers of the VGA's CRT controller. */
  CRTC: bytePorts(0x3d4, 2),
  COM1: bytePorts(0x3f8, 8),
  DEBUG_CONSOLE_QEMU: bytePorts(0x402, 1),
  ELCR: bytePorts(0x4d0, 2),
  FW_CFG: ports(0x510, 2),
  FW_CFG_DMA: ports(0x514, 8),
  /** What the firmware asks of the machine; no device of a PC is there. */
  FIRMWARE: ports(0x5f0, 8),
  /** 16 bits of status, 16 of enables. */
  PM1_EVENT: bytePorts(0x600, 4),
  PM1_CONTROL: bytePorts(0x604, 2),
  PM_TIMER: ports(0x608, 4),
  /** Status bytes, then as many of enables. */
  GPE0: bytePorts(0x620, 16),
  CPU_HOTPLUG: ports(0xcd8, 12),
  /** PCI's configuration address register, in the middle of which the reset control register sits. */
  PCI_ADDRESS: ports(0xcf8, 4),
  TEST_LINES: bytePorts(0x2000, 24),
  IOAPIC: memory(0xfec0_0000, 0x100),
  TEST_MEMORY: memory(0xff00_0000, 0x1_0000),
} as const satisfies Record<string, AddressRange>;

/** Offsets in FIRMWARE of a BIOS call's AX and, after that, its vector; offset 0 starts the image. */
export const FIRMWARE_CALL = { AX: 2, VECTOR: 4 } as const;

/** I/O port of the reset control register, and the value that resets the machine. */
export const RESET_CONTROL = { PORT: 0xcf9, HARD_RESET: 0x06 } as const;

/** The local APICs' page, which the CPUs answer and not the bus (IA32_APIC_BASE's reset value). */
export const LOCAL_APIC_BASE = 0xfee0_0000;

/** Global system interrupts; below 16 they are the ISA interrupts of a PC. */
export const GSI = {
  TIMER: 0,
  KEYBOARD: 1,
  CASCADE: 2,
  COM1: 4,
  RTC: 8,
  SCI: 9,
  MOUSE: 12,
  CPU_HOTPLUG: 20,
} as const;
export const ISA_INTERRUPTS = 16;
/** Inputs of the I/O APIC, and so the number of global system interrupts. */
export const GSI_COUNT = 24;
/** The I/O APIC's input that IRQ 0 is wired to; all others are wired to the one of their number. */
export const TIMER_PIN = 2;

/** CMOS index of the century (FADT's CENTURY). */
export const CMOS_CENTURY = 0x32;
/** SLP_TYP of soft off: writing `SLEEP_TYPE_S5 << 10 | 1 << 13` to PM1 control ends the run. */
export const SLEEP_TYPE_S5 = 0;
