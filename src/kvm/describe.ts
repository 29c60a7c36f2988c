/** An exit in one line, for errors and logs. Allocates: not for the exit path. */
import { hex } from '../hex.ts';
import { ExitReason, exitName, InternalError } from './constants.ts';
import type { KvmRun } from './run.ts';

/** `KVM_EXIT_IO: out port 0xf4, 1 x 1 bytes` */
export function describeExit(run: KvmRun): string {
  const name = exitName(run.exitReason);
  const more = detail(run);
  return more === '' ? name : `${name}: ${more}`;
}

function detail(run: KvmRun): string {
  switch (run.exitReason) {
    case ExitReason.UNKNOWN:
      return `hardware exit reason ${hex(run.hardwareExitReason)}`;
    case ExitReason.EXCEPTION:
      return `vector ${run.exception}, error code ${hex(run.exceptionErrorCode)}`;
    case ExitReason.IO:
      return `${run.ioIsOut ? 'out' : 'in'} port ${hex(run.ioPort)}, ${run.ioCount} x ${run.ioSize} bytes`;
    case ExitReason.HYPERCALL:
      return `number ${run.hypercallNumber}`;
    case ExitReason.DEBUG:
      return `exception ${run.debugException} at ${hex(run.debugPc)}, DR6 ${hex(run.debugDr6)}`;
    case ExitReason.MMIO:
      return `${run.mmioIsWrite ? 'write' : 'read'} of ${run.mmioLength} bytes at ${hex(run.mmioAddress)}`;
    case ExitReason.FAIL_ENTRY:
      return `hardware entry failure ${hex(run.failEntryReason)} on host CPU ${run.failEntryCpu}`;
    case ExitReason.TPR_ACCESS:
      return `${run.tprAccessIsWrite ? 'write' : 'read'} at ${hex(run.tprAccessRipLow)}`;
    case ExitReason.INTERNAL_ERROR:
      return internalError(run);
    case ExitReason.SYSTEM_EVENT:
      return `type ${run.systemEventType}, data [${run
        .systemEventData()
        .map((value) => hex(value))
        .join(' ')}]`;
    case ExitReason.IOAPIC_EOI:
      return `vector ${hex(run.eoiVector)}`;
    case ExitReason.X86_RDMSR:
    case ExitReason.X86_WRMSR:
      return `MSR ${hex(run.msrIndex)}, reason ${run.msrReason}`;
    case ExitReason.NOTIFY:
      return `flags ${hex(run.notifyFlags)}`;
    case ExitReason.MEMORY_FAULT:
      return `${run.memoryFaultBytes} bytes at ${hex(run.memoryFaultAddress)}`;
    default:
      return '';
  }
}

function internalError(run: KvmRun): string {
  const suberror = internalErrors[run.internalSuberror] ?? `suberror ${run.internalSuberror}`;
  const instruction = run.internalInstructionBytes();
  if (instruction.length > 0) return `${suberror}, instruction bytes ${Buffer.from(instruction).toString('hex')}`;
  return `${suberror}, data [${run
    .internalData()
    .map((value) => hex(value))
    .join(' ')}]`;
}

const internalErrors: Readonly<Record<number, string>> = {
  [InternalError.EMULATION]: 'KVM cannot emulate an instruction',
  [InternalError.SIMUL_EX]: 'simultaneous exceptions',
  [InternalError.DELIVERY_EV]: 'unexpected exit while an event was delivered',
  [InternalError.UNEXPECTED_EXIT_REASON]: 'unexpected exit reason',
};
