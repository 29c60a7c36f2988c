/**
 * The live view of a machine as lines of text: one for each CPU, the map's, the last messages. Pure: two snapshots and the
 * size of the terminal in, lines out; what does not fit is counted, the most active CPUs come first.
 */
import { hex } from '../hex.ts';
import { describeMap } from './report.ts';
import type { MachineSnapshot, VcpuSnapshot } from './snapshot.ts';

export interface WatchSize {
  /** Characters in a line, at least 20. */
  readonly columns: number;
  /** Lines for the whole view, at least 4. */
  readonly rows: number;
}

const STATE = { running: 'running', halted: 'halted', 'waiting for SIPI': 'wait-SIPI', parked: 'parked' } as const;
const HEADER = 'APIC ID  mode    state     IRR  ISR  TPR   int/s  exit/s';
/** Header, map, rates; and the last messages get what is left up to this. */
const FIXED_ROWS = 3;
const MAX_MESSAGES = 5;

/** A rate in at most five characters: 12, 1.2k, 340k, 1.1M. */
export function shortNumber(value: number): string {
  if (value < 1000) return String(Math.round(value));
  const [scaled, unit] = value < 1e6 ? [value / 1e3, 'k'] : [value / 1e6, 'M'];
  return `${scaled < 10 ? scaled.toFixed(1) : Math.round(scaled)}${unit}`;
}

interface Rates {
  readonly interrupts: number;
  readonly exits: number | undefined;
}

function ratesOf(cpu: VcpuSnapshot, before: VcpuSnapshot | undefined, seconds: number): Rates {
  if (!before || seconds <= 0) return { interrupts: 0, exits: cpu.exits === undefined ? undefined : 0 };
  const interrupts = (cpu.apic.counters.acknowledged - before.apic.counters.acknowledged) / seconds;
  const exits =
    cpu.exits === undefined || before.exits === undefined ? undefined : (cpu.exits - before.exits) / seconds;
  return { interrupts: Math.max(0, interrupts), exits };
}

function row(cpu: VcpuSnapshot, rates: Rates): string {
  const top = (vectors: readonly number[]): string => (vectors.length === 0 ? '-' : hex(Math.max(...vectors)));
  return [
    hex(cpu.apicId).padEnd(8),
    cpu.apic.mode.padEnd(7),
    STATE[cpu.state].padEnd(9),
    top(cpu.apic.requested).padEnd(4),
    top(cpu.apic.inService).padEnd(4),
    hex(cpu.apic.registers.TPR ?? 0).padEnd(4),
    shortNumber(rates.interrupts).padStart(6),
    (rates.exits === undefined ? '-' : shortNumber(rates.exits)).padStart(7),
  ].join(' ');
}

/**
 * @param before an earlier snapshot for the rates, or undefined for none yet
 * @param messages the last messages as text, oldest first
 */
export function watchLines(
  now: MachineSnapshot,
  before: MachineSnapshot | undefined,
  messages: readonly string[],
  size: WatchSize,
): string[] {
  const seconds = before ? (now.nowNanos - before.nowNanos) / 1e9 : 0;
  const earlier = new Map(before?.vcpus.map((cpu) => [cpu.apicId, cpu]));
  const cpus = now.vcpus.map((cpu) => ({ cpu, rates: ratesOf(cpu, earlier.get(cpu.apicId), seconds) }));
  const shownMessages = messages.slice(-Math.min(MAX_MESSAGES, Math.max(0, size.rows - FIXED_ROWS - cpus.length)));
  const room = Math.max(1, size.rows - FIXED_ROWS - shownMessages.length);
  const activity = ({ rates }: { rates: Rates }): number => rates.interrupts + (rates.exits ?? 0);
  const fits = cpus.length <= room;
  const chosen = fits ? cpus : cpus.toSorted((a, b) => activity(b) - activity(a)).slice(0, room - 1);
  const lines = [describeMap(now), HEADER, ...chosen.map(({ cpu, rates }) => row(cpu, rates))];
  if (!fits) lines.push(`and ${cpus.length - chosen.length} more CPUs, less active`);
  const total = cpus.reduce((sum, { rates }) => sum + rates.interrupts, 0);
  lines.push(`${cpus.length} CPUs, ${shortNumber(total)} interrupts a second`, ...shownMessages);
  return lines.map((line) => line.slice(0, size.columns));
}
