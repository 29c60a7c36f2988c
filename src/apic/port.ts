/**
 * The sender's half of every APIC: set IRR and TMR bits, post NMI, SMI, INIT and SIPI, then wake. Any thread may call it.
 * A sender cannot touch ISR, timer or registers: those are the owner's (local-apic.ts).
 *
 * Rules: __apic_accept_irq in arch/x86/kvm/lapic.c; SDM vol. 3A, 12.8.4 (acceptance), 12.6.1 (delivery modes).
 */
import { commandMode, commandVector, DELIVERY, isAsserted, isLevel } from './fields.ts';
import type { ApicHost } from './host.ts';
import { isEnabled, isPresent } from './identity.ts';
import { type ApicMemory, INBOX } from './layout.ts';
import { REG } from './registers.ts';
import { hasVector, shareClearVector, shareSetVector } from './vectors.ts';

/** Bits of the inbox's EVENTS word. */
export const APIC_EVENT = { INIT: 1, SIPI: 2, UNHALT: 4 } as const;

const TMR = REG.TMR >>> 2;
const IRR = REG.IRR >>> 2;

/**
 * The sender's half of every APIC: sets IRR and TMR bits, posts NMI, SMI, INIT and SIPI, then wakes. Any thread may
 * call it (__apic_accept_irq in lapic.c; SDM vol. 3A, 12.8.4).
 */
export class ApicPort {
  readonly #memory: ApicMemory;
  readonly #words: Int32Array;
  readonly #host: ApicHost;

  constructor(memory: ApicMemory, host: ApicHost) {
    this.#memory = memory;
    this.#words = memory.words;
    this.#host = host;
  }

  /**
   * Offers a message to one vCPU, whatever its destination says.
   * @param command message.ts; without COMMAND.ASSERT a level-triggered one is a de-assertion
   * @returns 1 if it was taken, 0 if it was dropped, as KVM counts it
   */
  accept(vcpuIndex: number, command: number): number {
    // Apart, so that V8 makes one function of all that an IPI passes through: it inlines small ones alone.
    const taken = hasVectorOfItsOwn(command) ? this.#request(vcpuIndex, command) : this.#post(vcpuIndex, command);
    if (this.#host.trace !== null) this.#tell(vcpuIndex, command, taken);
    return taken;
  }

  #tell(vcpuIndex: number, command: number, taken: number): void {
    this.#host.trace?.event({
      kind: 'accept',
      vcpuIndex,
      deliveryMode: commandMode(command),
      vector: commandVector(command),
      levelTriggered: isLevel(command),
      taken: taken !== 0,
    });
  }

  /** What goes to the inbox: everything but fixed and lowest priority. */
  #post(vcpuIndex: number, command: number): number {
    const words = this.#words;
    const a = this.#memory.block(vcpuIndex);
    switch (commandMode(command)) {
      case DELIVERY.REMOTE_READ:
        Atomics.or(words, a + INBOX.EVENTS, APIC_EVENT.UNHALT);
        break;
      case DELIVERY.SMI:
        if (!this.#memory.options.smm) return 0;
        Atomics.add(words, a + INBOX.SMIS, 1);
        break;
      case DELIVERY.NMI:
        Atomics.add(words, a + INBOX.NMIS, 1);
        break;
      case DELIVERY.INIT:
        if (isDeasserted(command) && this.#memory.rules.levelDeassert) return 0;
        // A store, not an or: an INIT discards a SIPI that waits. unhalt is no event of KVM's word, but INIT outdoes it.
        if (this.#memory.rules.initReplacesEvents) Atomics.store(words, a + INBOX.EVENTS, APIC_EVENT.INIT);
        else Atomics.or(words, a + INBOX.EVENTS, APIC_EVENT.INIT);
        break;
      case DELIVERY.STARTUP:
        // The vector before the bit: the owner reads them the other way round.
        Atomics.store(words, a + INBOX.SIPI_VECTOR, commandVector(command));
        Atomics.or(words, a + INBOX.EVENTS, APIC_EVENT.SIPI);
        break;
      default:
        return 0; // ExtINT comes from a PIC by way of LINT0, never as a message
    }
    this.#host.wake(vcpuIndex);
    return 1;
  }

  /** What goes to IRR: fixed and lowest priority. */
  #request(vcpuIndex: number, command: number): number {
    const words = this.#words;
    const rules = this.#memory.rules;
    const a = this.#memory.block(vcpuIndex);
    if (commandMode(command) === DELIVERY.LOWEST) Atomics.add(words, a + INBOX.ARB_PRIORITY, 1);
    if (isDeasserted(command) && rules.levelDeassert) return 0;
    const vector = commandVector(command);
    const levelTriggered = isLevel(command);
    const r = this.#memory.identity(vcpuIndex);
    if (!isEnabled(words, r) && (rules.disabledRefusesFixed || !isPresent(words, r))) return 0;
    // TMR before IRR: an owner that sees the request must see how it was triggered.
    if (rules.tmrFollowsTrigger && hasVector(words, a + TMR, vector) !== levelTriggered) {
      if (levelTriggered) shareSetVector(words, a + TMR, vector);
      else shareClearVector(words, a + TMR, vector);
    }
    shareSetVector(words, a + IRR, vector);
    this.#host.wake(vcpuIndex); // bits before wake
    return 1;
  }
}

const hasVectorOfItsOwn = (command: number): boolean => commandMode(command) <= DELIVERY.LOWEST;
const isDeasserted = (command: number): boolean => isLevel(command) && !isAsserted(command);
