/**
 * The sender's half of every APIC: set IRR and TMR bits, post NMI, SMI, INIT and SIPI, then wake. Any thread may call it.
 * A sender cannot touch ISR, timer or registers: those are the owner's (local-apic.ts).
 *
 * Rules: __apic_accept_irq in arch/x86/kvm/lapic.c; SDM vol. 3A, 12.8.4 (acceptance), 12.6.1 (delivery modes).
 */
import { DELIVERY } from './fields.ts';
import type { ApicHost } from './host.ts';
import { isEnabled, isPresent } from './identity.ts';
import { type ApicMemory, INBOX } from './layout.ts';
import { REG } from './registers.ts';
import { hasVector, shareClearVector, shareSetVector } from './vectors.ts';

/** Bits of the inbox's EVENTS word. */
export const ApicEvent = { init: 1, sipi: 2, unhalt: 4 } as const;

const TMR = REG.TMR >>> 2;
const IRR = REG.IRR >>> 2;

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
   * Offers an interrupt to one vCPU.
   * @param mode delivery mode, 0-7
   * @param vector 0-255
   * @param assert the level of a level-triggered message; messages from MSIs are always asserted
   * @param levelTriggered trigger mode
   * @returns 1 if it was taken, 0 if it was dropped, as KVM counts it
   */
  accept(vcpuIndex: number, mode: number, vector: number, assert: boolean, levelTriggered: boolean): number {
    const words = this.#words;
    const a = this.#memory.block(vcpuIndex);
    switch (mode) {
      case DELIVERY.LOWEST:
        Atomics.add(words, a + INBOX.ARB_PRIORITY, 1);
        return this.#fixed(vcpuIndex, a, vector, assert, levelTriggered);
      case DELIVERY.FIXED:
        return this.#fixed(vcpuIndex, a, vector, assert, levelTriggered);
      case DELIVERY.REMOTE_READ:
        Atomics.or(words, a + INBOX.EVENTS, ApicEvent.unhalt);
        break;
      case DELIVERY.SMI:
        if (!this.#memory.options.smm) return 0;
        Atomics.add(words, a + INBOX.SMIS, 1);
        break;
      case DELIVERY.NMI:
        Atomics.add(words, a + INBOX.NMIS, 1);
        break;
      case DELIVERY.INIT:
        if (levelTriggered && !assert && this.#memory.rules.levelDeassert) return 0;
        // A store, not an or: an INIT discards a SIPI that waits. unhalt is no event of KVM's word, but INIT outdoes it.
        if (this.#memory.rules.initReplacesEvents) Atomics.store(words, a + INBOX.EVENTS, ApicEvent.init);
        else Atomics.or(words, a + INBOX.EVENTS, ApicEvent.init);
        break;
      case DELIVERY.STARTUP:
        // The vector before the bit: the owner reads them the other way round.
        Atomics.store(words, a + INBOX.SIPI_VECTOR, vector);
        Atomics.or(words, a + INBOX.EVENTS, ApicEvent.sipi);
        break;
      default:
        return 0; // ExtINT comes from a PIC by way of LINT0, never as a message
    }
    this.#host.wake(vcpuIndex);
    return 1;
  }

  #fixed(vcpuIndex: number, a: number, vector: number, assert: boolean, levelTriggered: boolean): number {
    const words = this.#words;
    const rules = this.#memory.rules;
    if (levelTriggered && !assert && rules.levelDeassert) return 0;
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
