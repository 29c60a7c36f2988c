/** What one boot gave: passed from the host where it ran to the test that judges it, as a line of JSON. */

/** Interrupts of the local APIC's own that a CPU has taken. */
export interface Counts {
  readonly loc: number;
  readonly res: number;
  readonly cal: number;
}

export interface UsedCpu {
  readonly apicId: number;
  readonly linuxCpu: number;
  /** What /proc/cpuinfo says, and the CPU on which the pinned task found itself. */
  readonly apicidOfLinux: number;
  readonly taskOn: number;
  readonly before: Counts;
  readonly after: Counts;
}

export interface Boot {
  readonly scenario: string;
  /** The guest's last answers to "report", CPU by CPU. */
  readonly took: Readonly<Record<string, Counts>>;
  readonly used: readonly UsedCpu[];
  /** APIC IDs that Linux saw but did not online. */
  readonly refused: readonly number[];
  readonly ejected: readonly number[];
  /** _OST: [APIC ID, event, status]. */
  readonly ost: readonly (readonly [number, number, number])[];
  /** possible, present and online, as Linux has them when it stands and at the end. */
  readonly masks: readonly string[];
  readonly reason: string;
  readonly status: number;
  readonly detail: string;
  readonly seconds: number;
  /** The serial line, whole. */
  readonly console: string;
}

/** "loc:12 res:3 cal:4" */
export function parseCounts(text: string): Counts {
  const count = (name: string): number => Number(new RegExp(`${name}:(\\d+)`).exec(text)?.[1] ?? Number.NaN);
  return { loc: count('loc'), res: count('res'), cal: count('cal') };
}
