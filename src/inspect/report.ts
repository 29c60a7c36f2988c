/**
 * A snapshot as text for people: a line or two for each CPU, its verdict, the map, and what the interrupt controllers hold
 * back. Lines fit 80 columns as far as the words allow; CPUs that are all alike and wait for nothing are counted, not listed.
 */
import { hex } from '../hex.ts';
import { nameMessage } from '../trace/words.ts';
import type { IoApicPin, MachineSnapshot, VcpuSnapshot } from './snapshot.ts';
import { type Verdict, why } from './why.ts';

/** More CPUs than this: those that are stuck or run come first, and the rest is a count. */
const MAX_LISTED = 16;

const list = (apicIds: readonly number[]): string => apicIds.map((id) => hex(id)).join(', ') || 'nobody';

function vectors(cpu: VcpuSnapshot): string {
  const { requested, inService } = cpu.apic;
  const show = (name: string, of: readonly number[]): string =>
    of.length === 0 ? '' : ` ${name} ${hex(Math.max(...of))}${of.length > 1 ? ` (+${of.length - 1})` : ''}`;
  return show('IRR', requested) + show('ISR', inService);
}

function pendingEvents(cpu: VcpuSnapshot): string {
  const { nmis, events } = cpu.apic.pending;
  return [nmis > 0 ? ' NMI' : '', events & 1 ? ' INIT' : '', events & 2 ? ' SIPI' : ''].join('');
}

function timerOf(cpu: VcpuSnapshot, nowNanos: number): string {
  const { mode, deadlineNanos } = cpu.apic.timer;
  const entry = hex(cpu.apic.registers.LVT_TIMER ?? 0);
  if (!Number.isFinite(deadlineNanos)) return `timer ${mode}, off, LVT ${entry}`;
  return `timer ${mode}, in ${((deadlineNanos - nowNanos) / 1e6).toFixed(1)} ms, LVT ${entry}`;
}

/** The lines of one CPU, its verdict last. */
export function describeCpu(cpu: VcpuSnapshot, machine: MachineSnapshot, verdict = why(cpu, machine)): string[] {
  const { apic, registers, sent, state } = cpu;
  const where = registers ? `, rip ${hex(registers.rip)} IF=${registers.interruptFlag ? 1 : 0}` : '';
  const enabled = apic.softwareEnabled ? '' : ', software-disabled';
  const lines = [`CPU ${hex(cpu.apicId)}: ${state}${where}, ${apic.mode}${enabled}`];
  const priority = `TPR ${hex(apic.registers.TPR ?? 0)} PPR ${hex(apic.registers.PPR ?? 0)}`;
  lines.push(`  ${priority}${vectors(cpu)}${pendingEvents(cpu)}, ${timerOf(cpu, machine.nowNanos)}`);
  if (sent) lines.push(`  sent last: ${nameMessage(sent)}, by ${sent.path} to ${list(sent.targets)}`);
  lines.push(`  it ${verdict.text}`.replace(/^ {2}it (its|nothing|vector|GSI|IRQ|the|0x)/, '  $1'));
  return lines;
}

function describePin(pin: IoApicPin): string {
  const flags = [pin.pending ? 'pending' : '', pin.remoteIrr ? 'remote IRR' : '', pin.masked ? 'masked' : '']
    .filter((flag) => flag !== '')
    .join(', ');
  return `GSI ${pin.pin}: vector ${hex(pin.vector)} ${pin.levelTriggered ? 'level' : 'edge'} to ${list(pin.targets)}, ${flags}`;
}

/** The map in a line. */
export function describeMap(machine: MachineSnapshot): string {
  const gate = `gate ${machine.x2apicFormat ? 'on' : 'off'}`;
  const { map } = machine;
  if (!map) return `APIC map: KVM does not show its own (${gate})`;
  const inhibits = map.inhibits.length === 0 ? '' : `; ${map.inhibits.join(', ')}`;
  if (map.state === 'disabled') return `APIC map: none (${gate}): ${map.reason}; every message goes by scan${inhibits}`;
  return `APIC map: ${map.physical.size} IDs, logical mode ${map.logicalMode} (${gate})${inhibits}`;
}

/** The whole report; CPUs in the order of creation, those without a story counted when there are many. */
export function describeMachine(machine: MachineSnapshot): string[] {
  const judged = machine.vcpus.map((cpu) => ({ cpu, verdict: why(cpu, machine) }));
  const rank = ({ verdict }: { verdict: Verdict }): number => (verdict.stuck ? 0 : verdict.cause === 'runs' ? 1 : 2);
  const chosen =
    judged.length <= MAX_LISTED ? judged : judged.toSorted((a, b) => rank(a) - rank(b)).slice(0, MAX_LISTED);
  const lines = chosen.flatMap(({ cpu, verdict }) => describeCpu(cpu, machine, verdict));
  const rest = judged.length - chosen.length;
  if (rest > 0) lines.push(`and ${rest} more CPUs`);
  lines.push(describeMap(machine));
  for (const pin of machine.ioapic) if (pin.pending || pin.remoteIrr) lines.push(describePin(pin));
  const { pic } = machine;
  if (pic && (pic.requested !== 0 || pic.inService !== 0)) {
    lines.push(
      `PICs: IRR ${hex(pic.requested, 4)} IMR ${hex(pic.masked, 4)} ISR ${hex(pic.inService, 4)}, INT ${pic.output ? 'high' : 'low'}`,
    );
  }
  if (machine.unclaimed > 0) lines.push(`accesses that no device claimed: ${machine.unclaimed}`);
  return lines;
}
