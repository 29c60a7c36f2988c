/**
 * Why a CPU sleeps: the rules, in the order in which they are asked. Each looks at one thing that keeps an interrupt from a
 * CPU and says so in a sentence; the first that finds something is the verdict. A CPU that merely waits gets a verdict that
 * says for what, with `stuck: false`.
 *
 * Sources: SDM vol. 3A, 12.8 (acceptance, priorities), 7.8.1 (IF), 12.5.1 (LVT), 12.5.4 (timer), 10.4.4 (INIT, SIPI).
 */
import { DELIVERY, SHORTHAND } from '../apic/index.ts';
import { hex } from '../hex.ts';
import { nameMessage } from '../trace/words.ts';
import type { IoApicPin, MachineSnapshot, SentMessage, VcpuSnapshot } from './snapshot.ts';

/** Why a CPU sleeps, or what it does, as a name to compare with. */
export type Cause =
  | 'runs'
  | 'interrupts off'
  | 'parked'
  | 'waiting for SIPI'
  | 'about to wake'
  | 'in service'
  | 'task priority'
  | 'remote IRR'
  | 'timer masked'
  | 'timer armed'
  | 'APIC disabled'
  | 'message missed it'
  | 'I/O APIC masked'
  | 'PIC masked'
  | 'PIC unheard'
  | 'nothing pending';

/** The same in a sentence, and whether anything in the machine as it is could end it. */
export interface Verdict {
  readonly apicId: number;
  readonly cause: Cause;
  /** Something is held back or lost, rather than not yet due. */
  readonly stuck: boolean;
  /** One sentence, without the CPU's name in front. */
  readonly text: string;
}

type Finding = Omit<Verdict, 'apicId'> | undefined;
type Rule = (cpu: VcpuSnapshot, machine: MachineSnapshot) => Finding;

const VECTOR_CLASS = 0xf0;
const LVT_MASKED = 1 << 16;
const CASCADE = 1 << 2;
/** Vectors below are illegal for interrupts. */
const FIRST_VECTOR = 16;
const EVENT_INIT = 1;
const EVENT_SIPI = 2;

const stuck = (cause: Cause, text: string): Finding => ({ cause, text, stuck: true });
const waits = (cause: Cause, text: string): Finding => ({ cause, text, stuck: false });

const classOf = (value: number): number => value & VECTOR_CLASS;
const highest = (vectors: readonly number[]): number => Math.max(-1, ...vectors);
const register = (cpu: VcpuSnapshot, name: string): number => cpu.apic.registers[name] ?? 0;
const list = (apicIds: readonly number[]): string => apicIds.map((id) => hex(id)).join(', ') || 'nobody';

/** Whether the sender may have meant this CPU: its ID, or the 8 bits of it that an APIC in xAPIC mode answers to. */
function means(message: SentMessage, cpu: VcpuSnapshot): boolean {
  if (message.shorthand === SHORTHAND.SELF) return message.from === cpu.apicId;
  if (message.shorthand !== SHORTHAND.NONE || message.logical) return false;
  return message.destination === cpu.apicId || message.destination === cpu.apic.effectiveId;
}

/** Where a message to this CPU went instead, and why. */
function whereItWent(message: SentMessage, cpu: VcpuSnapshot, machine: MachineSnapshot): string {
  const { targets, path } = message;
  const gate = machine.x2apicFormat ? 'gate on' : 'gate off';
  const map = machine.map?.state === 'disabled' ? `no map (${machine.map.reason})` : `by ${path}`;
  const mode = `${hex(cpu.apicId)} is in ${modeName(cpu)} mode and answers to ${hex(cpu.apic.effectiveId)}`;
  if (targets.length === 0) return `met nobody: ${gate}, ${map}, ${mode}`;
  const aliased = cpu.apic.effectiveId !== cpu.apicId || targets.some((id) => (id & 0xff) === (cpu.apicId & 0xff));
  return `went to ${list(targets)}${aliased ? ', its alias' : ''}: ${gate}, ${map}; ${mode}`;
}

const modeName = (cpu: VcpuSnapshot): string =>
  ({ xapic: 'xAPIC', x2apic: 'x2APIC', disabled: 'disabled', invalid: 'invalid' })[cpu.apic.mode];

function lostMessages(cpu: VcpuSnapshot, machine: MachineSnapshot): SentMessage[] {
  return machine.vcpus.flatMap(({ sent }) =>
    sent !== undefined && means(sent, cpu) && !sent.targets.includes(cpu.apicId) ? [sent] : [],
  );
}

const parked: Rule = (cpu) =>
  cpu.state === 'parked'
    ? waits('parked', 'is not plugged in: the guest ejected it, or it has not come yet')
    : undefined;

const waitsForSipi: Rule = (cpu, machine) => {
  if (cpu.state !== 'waiting for SIPI') return undefined;
  if ((cpu.apic.pending.events & EVENT_SIPI) !== 0) return waits('about to wake', 'is about to start: a SIPI has come');
  const starts = lostMessages(cpu, machine).filter(({ deliveryMode }) => deliveryMode === DELIVERY.STARTUP);
  const [lost] = starts;
  if (lost) {
    return stuck(
      'waiting for SIPI',
      `is in wait-for-SIPI, and no SIPI found it: ${hex(lost.from)}'s ${nameMessage(lost)} ${whereItWent(lost, cpu, machine)}`,
    );
  }
  const init = machine.vcpus.find(
    ({ sent }) => sent?.deliveryMode === DELIVERY.INIT && (sent.targets.includes(cpu.apicId) || means(sent, cpu)),
  );
  if (init)
    return stuck(
      'waiting for SIPI',
      `is in wait-for-SIPI: an INIT came from ${hex(init.apicId)}, and no SIPI after it`,
    );
  const nobody = machine.vcpus.find(({ sent }) => sent?.deliveryMode === DELIVERY.STARTUP && sent.targets.length === 0);
  if (nobody?.sent) {
    return stuck(
      'waiting for SIPI',
      `is in wait-for-SIPI, and no SIPI found it: ${hex(nobody.apicId)}'s ${nameMessage(nobody.sent)} met nobody`,
    );
  }
  return waits('waiting for SIPI', 'is in wait-for-SIPI: nobody has started it');
};

const interruptsOff: Rule = (cpu, machine) => {
  if (cpu.registers === undefined || cpu.registers.interruptFlag) return undefined;
  const requested = highest(cpu.apic.requested);
  const held =
    requested >= 0
      ? `: vector ${hex(requested)} waits in IRR`
      : machine.pic?.output === true && cpu.acceptsPic
        ? ': an interrupt of the PIC waits'
        : '';
  if (cpu.state === 'halted')
    return stuck('interrupts off', `sleeps with interrupts off (IF=0)${held}; only an NMI or INIT wakes it`);
  return held === '' ? undefined : waits('interrupts off', `runs with interrupts off (IF=0)${held}`);
};

const runs: Rule = (cpu) =>
  cpu.state === 'running' ? waits('runs', cpu.registers ? `runs at rip ${hex(cpu.registers.rip)}` : 'runs') : undefined;

const aboutToWake: Rule = (cpu, machine) => {
  const { pending, requested, softwareEnabled } = cpu.apic;
  if (pending.nmis > 0) return waits('about to wake', 'is about to take an NMI');
  if ((pending.events & EVENT_INIT) !== 0) return waits('about to wake', 'is about to take an INIT');
  const vector = highest(requested);
  if (softwareEnabled && vector >= FIRST_VECTOR)
    return waits('about to wake', `is about to take vector ${hex(vector)}`);
  if (machine.pic?.output === true && cpu.acceptsPic)
    return waits('about to wake', 'is about to take an interrupt of the PIC');
  return undefined;
};

/** The line of an interrupt that is in service: what an EOI would free. */
const lineOf = (pins: readonly IoApicPin[], vector: number): string => {
  const pin = pins.find((each) => each.remoteIrr && each.vector === vector);
  return pin ? `; GSI ${pin.pin} ${pin.pending ? 'is high and ' : ''}waits for that EOI (remote IRR)` : '';
};

const heldBack: Rule = (cpu, machine) => {
  const requested = highest(cpu.apic.requested);
  if (requested < 0) return undefined;
  const inService = highest(cpu.apic.inService);
  const tpr = register(cpu, 'TPR');
  const blocking = inService < 0 ? 0 : classOf(inService);
  if (classOf(requested) > Math.max(blocking, classOf(tpr))) return undefined;
  if (inService >= 0 && blocking >= classOf(tpr)) {
    const text = `vector ${hex(requested)} is in IRR, held back by ${hex(inService)} in service: no EOI came for it${lineOf(machine.ioapic, inService)}`;
    return stuck('in service', text);
  }
  return stuck('task priority', `vector ${hex(requested)} is in IRR, held back by TPR ${hex(tpr)}`);
};

const noEoi: Rule = (cpu, machine) => {
  const inService = highest(cpu.apic.inService);
  if (inService < 0) return undefined;
  const waiting = machine.ioapic.find((pin) => pin.remoteIrr && pin.vector === inService);
  if (waiting?.pending !== true) return undefined;
  return stuck(
    'in service',
    `vector ${hex(inService)} is in service and no EOI came for it${lineOf(machine.ioapic, inService)}`,
  );
};

const remoteIrr: Rule = (cpu, machine) => {
  const pin = machine.ioapic.find(
    (each) =>
      each.remoteIrr &&
      each.pending &&
      each.targets.includes(cpu.apicId) &&
      !machine.vcpus.some(({ apic }) => apic.inService.includes(each.vector) || apic.requested.includes(each.vector)),
  );
  if (!pin) return undefined;
  return stuck(
    'remote IRR',
    `GSI ${pin.pin} is high and its remote IRR is set, but nobody has vector ${hex(pin.vector)} in service: its EOI never reached the I/O APIC`,
  );
};

const timer: Rule = (cpu, machine) => {
  const { timer: state, pending } = cpu.apic;
  const masked = (register(cpu, 'LVT_TIMER') & LVT_MASKED) !== 0;
  if (masked && pending.timer) {
    const deadline = state.mode === 'tsc-deadline' ? 'its TSC deadline has passed' : 'its timer ran out';
    return stuck('timer masked', `${deadline}, but the timer's LVT entry is masked`);
  }
  if (!Number.isFinite(state.deadlineNanos)) return undefined;
  const millis = Math.max(0, (state.deadlineNanos - machine.nowNanos) / 1e6);
  const when = `its timer (${state.mode}) runs out in ${millis < 10 ? millis.toFixed(1) : Math.round(millis)} ms`;
  return masked
    ? stuck('timer masked', `${when}, but the timer's LVT entry is masked`)
    : waits('timer armed', `nothing is pending; ${when}`);
};

const missed: Rule = (cpu, machine) => {
  const [lost] = lostMessages(cpu, machine);
  if (!lost) return undefined;
  if (cpu.apic.softwareEnabled || lost.targets.length > 0 || lost.shorthand === SHORTHAND.SELF) {
    const text = `${hex(lost.from)}'s last message, ${nameMessage(lost)}, ${whereItWent(lost, cpu, machine)}`;
    return stuck('message missed it', text);
  }
  return undefined;
};

const disabled: Rule = (cpu, machine) => {
  if (cpu.apic.mode !== 'disabled' && cpu.apic.softwareEnabled) return undefined;
  const how =
    cpu.apic.mode === 'disabled' ? 'disabled (IA32_APIC_BASE bit 11 is 0)' : 'software-disabled (SVR bit 8 is 0)';
  const lost = machine.vcpus.find(({ sent }) => sent !== undefined && reaches(sent, cpu))?.sent;
  const what = lost ? `: ${hex(lost.from)}'s ${nameMessage(lost)} was dropped` : ': it takes no fixed interrupts';
  return stuck('APIC disabled', `its APIC is ${how}${what}`);
};

const reaches = (sent: SentMessage, cpu: VcpuSnapshot): boolean =>
  (sent.deliveryMode === DELIVERY.FIXED || sent.deliveryMode === DELIVERY.LOWEST) &&
  (sent.targets.includes(cpu.apicId) || means(sent, cpu));

const maskedPin: Rule = (cpu, machine) => {
  const pin = machine.ioapic.find(
    (each) => each.masked && each.pending && each.levelTriggered && each.targets.includes(cpu.apicId),
  );
  return (
    pin &&
    stuck('I/O APIC masked', `GSI ${pin.pin} is high, but its I/O APIC entry (vector ${hex(pin.vector)}) is masked`)
  );
};

const maskedPic: Rule = (cpu, machine) => {
  const { pic } = machine;
  if (!pic) return undefined;
  if (pic.output && !machine.vcpus.some(({ acceptsPic }) => acceptsPic))
    return stuck('PIC unheard', 'the PIC asks for an interrupt, but no LINT0 lets it in (ExtINT, unmasked)');
  const held = pic.requested & pic.masked & ~CASCADE;
  if (!cpu.acceptsPic || held === 0) return undefined;
  const irqs = Array.from({ length: 16 }, (_, irq) => irq).filter((irq) => (held >>> irq) & 1);
  return stuck(
    'PIC masked',
    `IRQ ${irqs.join(', ')} ${irqs.length === 1 ? 'is' : 'are'} raised and masked in the PIC (IMR ${hex(pic.masked, 4)})`,
  );
};

const nothing: Rule = (cpu) => {
  const inService = highest(cpu.apic.inService);
  const service = inService < 0 ? '' : `; vector ${hex(inService)} is in service, so it sleeps in a handler`;
  return waits('nothing pending', `nothing is pending for it and its timer is off${service}`);
};

const RULES: readonly Rule[] = [
  parked,
  waitsForSipi,
  interruptsOff,
  runs,
  heldBack,
  aboutToWake,
  noEoi,
  remoteIrr,
  disabled,
  timer,
  missed,
  maskedPin,
  maskedPic,
  nothing,
];

/** Why this CPU does what it does, or does nothing. Every CPU gets a verdict. */
export function why(cpu: VcpuSnapshot, machine: MachineSnapshot): Verdict {
  for (const rule of RULES) {
    const finding = rule(cpu, machine);
    if (finding) return { apicId: cpu.apicId, ...finding };
  }
  return { apicId: cpu.apicId, cause: 'nothing pending', stuck: false, text: 'nothing is pending for it' };
}
