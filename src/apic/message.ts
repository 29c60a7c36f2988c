/**
 * A message between APICs: (source, destination, command). The source is the sender's vCPU index, or FROM_DEVICE; the
 * destination a physical or logical ID of 32 bits; the command is laid out as ICR's low word (fields.ts). IPIs, MSIs, LVT
 * entries and I/O APIC messages become this once, at their door, and stay it until an APIC accepts it.
 *
 * What is below says the same in words, for people, tests and whoever does not count allocations.
 */
import {
  COMMAND,
  commandMode,
  commandShorthand,
  commandVector,
  DELIVERY,
  hasHint,
  isAsserted,
  isLevel,
  isLogical,
  SHORTHAND,
} from './fields.ts';

/** The `source` of a message that no APIC sent. */
export const FROM_DEVICE = -1;

/** A message in words (KVM's struct kvm_lapic_irq). */
export interface ApicMessage {
  /** vCPU index of the sender; absent or FROM_DEVICE for a device (MSI, I/O APIC). */
  readonly source?: number;
  /** Physical ID, or logical ID with `logical`: 0-0xffffffff. Ignored with a shorthand, but for KVM's test for 0xff. */
  readonly destination: number;
  /** Default false: physical. */
  readonly logical?: boolean;
  /** 0-7 (DELIVERY). Default 0, fixed. */
  readonly deliveryMode?: number;
  readonly vector: number;
  /** True: level-triggered. Default false, edge. */
  readonly trigMode?: boolean;
  /** Level of a level-triggered message. Default true, asserted. */
  readonly level?: boolean;
  /** 0-3 (SHORTHAND). Default 0, none. */
  readonly shorthand?: number;
  /** An MSI's redirection hint: treated as lowest priority. */
  readonly redirectionHint?: boolean;
}

/** The command that says what `message` says; its source and destination are not part of it. */
export const makeCommand = (message: Omit<ApicMessage, 'source' | 'destination'>): number =>
  (message.vector & 0xff) |
  (((message.deliveryMode ?? DELIVERY.FIXED) & 7) << 8) |
  (message.logical === true ? COMMAND.LOGICAL : 0) |
  (message.level === false ? 0 : COMMAND.ASSERT) |
  (message.trigMode === true ? COMMAND.LEVEL : 0) |
  (((message.shorthand ?? SHORTHAND.NONE) & 3) << 18) |
  (message.redirectionHint === true ? COMMAND.HINT : 0);

/** The opposite of `makeCommand`: a message in fields. @param command as in the ICR's low word */
export const inWords = (source: number, destination: number, command: number): Required<ApicMessage> => ({
  source,
  destination,
  logical: isLogical(command),
  deliveryMode: commandMode(command),
  vector: commandVector(command),
  trigMode: isLevel(command),
  level: isAsserted(command),
  shorthand: commandShorthand(command),
  redirectionHint: hasHint(command),
});
