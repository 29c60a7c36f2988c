/**
 * Layer 1: routing without guest code. Random machines, made twice; random MSIs and changes of state; the kernel's answer
 * and every register page against ours after each.
 */
import type fc from 'fast-check';
import type { ApicSystemOptions } from '../apic/index.ts';
import { cases } from './arbitraries.ts';
import { Layer } from './layer.ts';
import { makeRigs, type RigLimits } from './rigs.ts';
import { RoutingObserver } from './routing-coverage.ts';
import type { Case, HostOperation, Judge } from './spec.ts';

export class Layer1 extends Layer<HostOperation> {
  /** Machines with the same rigs: making their 160 vCPUs costs 50 ms. */
  readonly batch = 400;
  readonly #reference: Judge;
  readonly #limits: RigLimits;

  /**
   * @param reference whom to compare with; closed with this layer
   * @param model the host's properties (probeHost), the behaviour, the rules to break
   * @param limits of the reference's host
   */
  constructor(reference: Judge, model: ApicSystemOptions, limits: RigLimits = {}) {
    super(model, new RoutingObserver(model));
    this.#limits = limits;
    this.#reference = reference;
  }

  arbitrary(seed: number): fc.Arbitrary<Case<HostOperation>> {
    return cases(makeRigs(seed, this.#limits));
  }

  reference(): Judge {
    return this.#reference;
  }

  close(): void {
    this.#reference.close();
  }
}
