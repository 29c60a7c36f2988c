/**
 * Layer 2: registers, through a guest. The same list of operations is carried out by a guest on KVM's own APICs, by the same
 * guest on ours, and by the model alone; results, faults, interrupts taken in order, and the register pages at the end have
 * to be equal.
 */
import type fc from 'fast-check';
import type { ApicSystemOptions } from '../../apic/index.ts';
import { Layer } from '../layer.ts';
import { makeRigs, RigCache, type RigLimits } from '../rigs.ts';
import type { Case, GuestOperation, Judge, RigSpec } from '../spec.ts';
import { cases } from './generate.ts';
import { KernelRig } from './kernel-rig.ts';
import { askTscHigh, type MachineProbe } from './probe.ts';
import { RegisterObserver } from './register-coverage.ts';
import { UserRig } from './user-rig.ts';

const RIGS = 4;
const RIG_CPUS = 8;

export class Layer2 extends Layer<GuestOperation> {
  /** Lists on the same machines: making those costs half a second. */
  readonly batch = 1000;
  readonly #options: ApicSystemOptions;
  readonly #limits: { readonly lowTpr: boolean; readonly cr8Writes: boolean };
  readonly #rigLimits: RigLimits;
  /** The machines of the batch, as far as they have been asked. */
  readonly #kernels = new RigCache<KernelRig>(RIGS);
  readonly #monitors = new RigCache<UserRig>(RIGS);
  #seed: number | undefined;

  /**
   * @param model the host's properties (probeHost), the behaviour, the rules to break
   * @param probe the host's answers (probeMachine)
   * @param cr8Writes some lists have writes to CR8
   */
  constructor(model: ApicSystemOptions, { options: host, lowTpr, maxVcpuId }: MachineProbe, cr8Writes = true) {
    const options = { ...model, ...host };
    super(options, new RegisterObserver(options));
    this.#options = options;
    this.#limits = { lowTpr, cr8Writes };
    this.#rigLimits = { cpus: RIG_CPUS, maxVcpuId };
  }

  /** Makes and boots the machines as well, two for each setting of the gates. @throws KvmError */
  override async prepare(seed: number): Promise<fc.Arbitrary<Case<GuestOperation>>> {
    const arbitrary = this.arbitrary(seed);
    for (const rig of makeRigs(seed, this.#rigLimits)) {
      await this.reference(rig);
      await this.others(rig);
    }
    return arbitrary;
  }

  arbitrary(seed: number): fc.Arbitrary<Case<GuestOperation>> {
    if (this.#seed !== seed) this.close();
    this.#seed = seed;
    const tsc = { khz: this.#options.tscKhz ?? 1_000_000, high: askTscHigh() };
    return cases(makeRigs(seed, this.#rigLimits), { tsc, ...this.#limits });
  }

  async reference(rig: RigSpec): Promise<Judge> {
    return this.#kernels.get(rig) ?? this.#kernels.add(rig, await KernelRig.create(rig));
  }

  override async others(rig: RigSpec): Promise<readonly Judge[]> {
    return [this.#monitors.get(rig) ?? this.#monitors.add(rig, await UserRig.create(rig, this.#options))];
  }

  close(): void {
    this.#kernels.close();
    this.#monitors.close();
  }
}
