/**
 * A trace event in words, for every kind of trace file: where it happened, whom it concerns, a title that says what it is,
 * and what is worth knowing on a second look. Names are KVM's tracepoints (arch/x86/kvm/trace.h) where one exists.
 */
import { type ApicMessage, DELIVERY, DELIVERY_NAMES, SHORTHAND } from '../apic/index.ts';
import { hex } from '../hex.ts';
import type { TraceEvent } from '../machine/trace.ts';

/** The lane of what no vCPU did: devices, the map, the machine. */
export const DEVICES = -1;

export interface TraceWords {
  /** A vCPU index, or DEVICES. */
  readonly lane: number;
  /** Of a message: the vCPU indexes it was offered to. */
  readonly to?: readonly number[];
  readonly title: string;
  /** KVM's tracepoint for the same, if it has one. */
  readonly tracepoint?: string;
  readonly details: Readonly<Record<string, string | number>>;
  /** Something was dropped, met nobody, or the map is gone. */
  readonly lost: boolean;
}

const SHORTHANDS = ['', 'self', 'all', 'all but self'];

/** "0x41 to 0x23", "INIT to all but self", "lowest 0x41 to logical 0x3", "SIPI 0x10 to 0x24". */
export function nameMessage(message: Omit<ApicMessage, 'source'>): string {
  const { destination, logical = false, shorthand = SHORTHAND.NONE } = message;
  const to = SHORTHANDS[shorthand] || `${logical ? 'logical ' : ''}${hex(destination)}`;
  return `${nameInterrupt(message.deliveryMode ?? DELIVERY.FIXED, message.vector)} to ${to}`;
}

/** "0x41", "NMI", "INIT", "SIPI 0x10", "lowest 0x41": a vector where it means something. */
export function nameInterrupt(deliveryMode: number, vector: number): string {
  switch (deliveryMode) {
    case DELIVERY.FIXED:
      return hex(vector);
    case DELIVERY.NMI:
      return 'NMI';
    case DELIVERY.INIT:
      return 'INIT';
    case DELIVERY.SMI:
      return 'SMI';
    case DELIVERY.STARTUP:
      return `SIPI ${hex(vector)}`;
    default:
      return `${DELIVERY_NAMES[deliveryMode] ?? `mode ${deliveryMode}`} ${hex(vector)}`;
  }
}

const STATE_TITLES = {
  running: 'runs',
  halted: 'HLT',
  'waiting for SIPI': 'waits for SIPI',
  parked: 'parked',
} as const;

type Lanes = (vcpuIndex: number) => string;

/** @param nameOf what a vCPU is called in `details` */
export function traceWords(event: TraceEvent, nameOf: Lanes): TraceWords {
  switch (event.kind) {
    case 'route': {
      const { message, path, targets, scan, result } = event;
      const details = {
        destination: hex(message.destination),
        destinationMode: message.logical ? 'logical' : 'physical',
        trigger: message.trigMode ? 'level' : 'edge',
        path,
        result,
        targets: targets.map(({ vcpuIndex, why }) => `${nameOf(vcpuIndex)}: ${why}`).join('; ') || 'nobody',
        scan: scan.map(({ vcpuIndex, why }) => `${nameOf(vcpuIndex)}: ${why}`).join('; ') || 'no match',
      };
      return {
        lane: message.source < 0 ? DEVICES : message.source,
        to: targets.map(({ vcpuIndex }) => vcpuIndex),
        title: nameMessage(message),
        tracepoint: message.source < 0 ? 'kvm_msi_set_irq' : 'kvm_apic_ipi',
        details,
        lost: targets.length === 0,
      };
    }
    case 'accept': {
      const name = nameInterrupt(event.deliveryMode, event.vector);
      const details = { trigger: event.levelTriggered ? 'level' : 'edge' };
      const title = event.taken ? `accepts ${name}` : `drops ${name}`;
      return { lane: event.vcpuIndex, title, tracepoint: 'kvm_apic_accept_irq', details, lost: !event.taken };
    }
    case 'eoi': {
      const title = `EOI ${hex(event.vector)}`;
      return { lane: event.vcpuIndex, title, tracepoint: 'kvm_eoi', details: {}, lost: false };
    }
    case 'timer': {
      const title = event.masked ? 'timer ran out, masked' : `timer ran out, ${hex(event.vector)}`;
      return { lane: event.vcpuIndex, title, details: {}, lost: event.masked };
    }
    case 'register': {
      const title = `${event.register} = ${hex(event.value)}`;
      return { lane: event.vcpuIndex, title, details: {}, lost: false };
    }
    case 'map': {
      const title = event.reason === null ? `map ${event.serial}` : `no map: ${event.reason}`;
      return { lane: DEVICES, title, details: { serial: event.serial }, lost: event.reason !== null };
    }
    case 'inject': {
      const title = `takes ${hex(event.vector)}${event.from === 'pic' ? ' of the PIC' : ''}`;
      return { lane: event.vcpuIndex, title, tracepoint: 'kvm_inj_virq', details: {}, lost: false };
    }
    case 'nmi':
      return { lane: event.vcpuIndex, title: 'takes NMI', details: {}, lost: false };
    case 'state':
      return { lane: event.vcpuIndex, title: STATE_TITLES[event.state], details: {}, lost: false };
    case 'pic':
      return { lane: DEVICES, title: `PIC INT ${event.level ? 'high' : 'low'}`, details: {}, lost: false };
    case 'exits': {
      const each = Object.entries(event.counts).map(([name, count]) => `${name} ${count}`);
      return { lane: event.vcpuIndex, title: `exits: ${each.join(', ')}`, details: event.counts, lost: false };
    }
    case 'hotplug':
      return { lane: DEVICES, title: `${event.what} ${hex(event.apicId)}`, details: {}, lost: false };
  }
}
