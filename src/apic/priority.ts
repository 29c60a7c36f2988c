/**
 * Which interrupt may be taken: PPR from TPR and ISR, IRR to ISR, EOI (SDM vol. 3A, 12.8.3-12.8.5). Only the owner calls it.
 *
 * KVM keeps the number of vectors in service and the highest of them aside (isr_count, highest_isr_cache), and so do we:
 * after KVM_SET_LAPIC it computes PPR once from the old values, and KVM_GET_LAPIC shows it.
 */
import { priorityClass } from './fields.ts';
import { type ApicMemory, type BlockWord, CONTROL } from './layout.ts';
import { REG } from './registers.ts';
import type { Rules } from './rules.ts';
import {
  clearVector,
  countVectors,
  hasVector,
  highestVector,
  listVectors,
  setVector,
  shareClearVector,
} from './vectors.ts';

export class Priority {
  readonly #words: Int32Array;
  readonly #rules: Readonly<Rules>;
  /** APICv active: no cache. */
  readonly #uncached: boolean;
  readonly #autoEoi: boolean;
  // First words of the registers.
  readonly #isr: number;
  readonly #irr: number;
  readonly #tpr: number;
  readonly #ppr: number;
  readonly #count: number;
  readonly #cached: number;

  /** `a` is the first word of the APIC's block. */
  constructor(memory: ApicMemory, a: BlockWord) {
    this.#words = memory.words;
    this.#rules = memory.rules;
    this.#uncached = memory.options.apicv;
    this.#autoEoi = memory.options.autoEoi;
    this.#isr = a + (REG.ISR >>> 2);
    this.#irr = a + (REG.IRR >>> 2);
    this.#tpr = a + (REG.TPR >>> 2);
    this.#ppr = a + (REG.PPR >>> 2);
    this.#count = a + CONTROL.ISR_COUNT;
    this.#cached = a + CONTROL.ISR_HIGHEST;
  }

  /** __apic_update_ppr. Returns the new PPR. */
  update(): number {
    const words = this.#words;
    const tpr = words[this.#tpr];
    const inService = this.highestInService();
    const service = inService < 0 ? 0 : priorityClass(inService);
    const ppr = priorityClass(tpr) >= service ? tpr & 0xff : service;
    words[this.#ppr] = ppr;
    return ppr;
  }

  /** apic_find_highest_isr: the highest vector in service, or -1, by the cache. */
  highestInService(): number {
    const words = this.#words;
    if (!this.#rules.isrCache) return highestVector(words, this.#isr);
    if (words[this.#count] === 0) return -1;
    const cached = words[this.#cached];
    return cached >= 0 ? cached : highestVector(words, this.#isr);
  }

  /** The highest vector in service if the cache has it, else -1: what KVM knows without a search. */
  cachedInService(): number {
    return this.#words[this.#count] === 0 ? -1 : this.#words[this.#cached];
  }

  /** kvm_apic_update_apicv: forget the cache, count again. */
  recount(): void {
    this.#words[this.#count] = this.#uncached ? 1 : countVectors(this.#words, this.#isr);
    this.#words[this.#cached] = -1;
  }

  /** The highest vector in IRR, or -1. */
  highestRequested(): number {
    return highestVector(this.#words, this.#irr);
  }

  /** kvm_apic_has_interrupt for an APIC that is present: the vector that may be taken now, or -1. */
  pending(): number {
    const ppr = this.update();
    const vector = this.highestRequested();
    return vector >= 0 && (priorityClass(vector) > ppr || !this.#rules.priorityClass) ? vector : -1;
  }

  /** kvm_apic_ack_interrupt: from IRR to ISR. */
  begin(vector: number): void {
    const words = this.#words;
    shareClearVector(words, this.#irr, vector);
    if (!this.#autoEoi && !hasVector(words, this.#isr, vector)) {
      setVector(words, this.#isr, vector);
      this.#changed(1, vector);
    }
    this.update();
  }

  /** apic_set_eoi. Returns the vector that ended, or -1 when nothing was in service. */
  end(): number {
    const words = this.#words;
    const highest = this.highestInService();
    if (highest < 0) return -1;
    const vector = this.#rules.eoiHighest ? highest : (listVectors(words, this.#isr)[0] ?? highest);
    if (hasVector(words, this.#isr, vector)) {
      clearVector(words, this.#isr, vector);
      this.#changed(-1, -1);
    }
    this.update();
    return vector;
  }

  #changed(by: number, highest: number): void {
    if (this.#uncached) return;
    this.#words[this.#count] += by;
    this.#words[this.#cached] = highest;
  }
}
