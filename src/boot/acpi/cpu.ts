/** One CPU that the machine has or may get. Its position in the list is its selector in the CPU hotplug block. */
export interface AcpiCpu {
  /** 32 bits; also the CPU's ACPI `_UID` */
  readonly apicId: number;
  /** false: may be hot-added later */
  readonly present: boolean;
}
