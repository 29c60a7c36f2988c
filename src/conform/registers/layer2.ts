/**
 * Layer 2: registers, through a guest. The same list of operations is carried out by a guest on KVM's own APICs, by the same
 * guest on ours, and by the model alone; results, faults, interrupts taken in order, and the register pages at the end have
 * to be equal.
 */
import type { ApicSystemOptions } from '../../apic/index.ts';
import type { Prepared } from '../campaign.ts';
import { compareOutcomes } from '../compare.ts';
import { Coverage } from '../coverage.ts';
import { Layer, type Wrong } from '../layer.ts';
import { ModelJudge } from '../model-judge.ts';
import { makeRigs, type RigSpec, rigKey } from '../rigs.ts';
import type { Case, GuestOperation, Judge } from '../spec.ts';
import { type RegisterRecipe, recipes, resolve } from './generate.ts';
import type { ListHost } from './guest-list.ts';
import { KernelRig } from './kernel-rig.ts';
import { askLowTpr, askTscHigh, probeMachine } from './probe.ts';
import { RegisterObserver, registerCoverage } from './register-coverage.ts';
import { UserRig } from './user-rig.ts';

const RIG_CPUS = 8;

interface Pair {
  readonly kernel: Judge;
  readonly user: Judge;
}

export class Layer2 extends Layer<RegisterRecipe, GuestOperation> {
  /** Lists on the same machines: making those costs half a second. */
  readonly batch = 1000;
  readonly coverage: Coverage;
  readonly #options: ApicSystemOptions;
  readonly #pairs = new Map<string, Pair>();
  readonly #cr8Writes: boolean;
  #seed: number | undefined;
  #lowTpr: boolean | undefined;
  readonly #model: ModelJudge;

  /**
   * Makes and boots the machines: two for each setting of the gates.
   * @param model the host's properties (probeHost), the behaviour, the rules to break
   * @param seed of the first batch: chooses the APIC IDs
   * @param cr8Writes some lists have writes to CR8
   * @throws KvmError when the host has no KVM that can be used
   */
  static async create(model: ApicSystemOptions, seed: number, cr8Writes = true): Promise<Layer2> {
    const layer = new Layer2({ ...model, ...(await probeMachine()) }, cr8Writes);
    await layer.prepare(seed);
    return layer;
  }

  private constructor(options: ApicSystemOptions, cr8Writes: boolean) {
    super();
    this.#options = options;
    this.#cr8Writes = cr8Writes;
    this.coverage = new Coverage(registerCoverage(options));
    this.#model = new ModelJudge(options);
    this.#model.observer = new RegisterObserver(this.coverage);
  }

  async prepare(seed: number): Promise<Prepared<RegisterRecipe, Case<GuestOperation>>> {
    this.#lowTpr ??= await askLowTpr();
    const { rigs, prepared } = prepareGuests(seed, this.#options, { lowTpr: this.#lowTpr, cr8Writes: this.#cr8Writes });
    if (this.#seed !== seed) {
      this.close();
      for (const rig of rigs) {
        this.#pairs.set(rigKey(rig), {
          kernel: await KernelRig.create(rig),
          user: await UserRig.create(rig, this.#options),
        });
      }
      this.#seed = seed;
    }
    return prepared;
  }

  close(): void {
    for (const { kernel, user } of this.#pairs.values()) {
      kernel.close();
      user.close();
    }
    this.#pairs.clear();
  }

  protected judgeOnce(candidate: Case<GuestOperation>): Wrong | undefined {
    const pair = this.#pairs.get(rigKey(candidate.machine));
    if (pair === undefined) throw new Error('there is no machine for this case');
    const expected = pair.kernel.carryOut(candidate);
    const model = this.#model.carryOut(candidate);
    const byModel = compareOutcomes(expected, model);
    if (byModel.length > 0) return { differences: byModel, judges: ['kernel', 'model'] };
    const byUser = compareOutcomes(expected, pair.user.carryOut(candidate), model);
    return byUser.length > 0 ? { differences: byUser, judges: ['kernel', 'our machine'] } : undefined;
  }
}

/** The VMs of a batch, and the lists for them. @throws KvmError */
export function prepareGuests(
  seed: number,
  { tscKhz = 1_000_000 }: ApicSystemOptions,
  limits: Omit<ListHost, 'tsc'>,
): { readonly rigs: readonly RigSpec[]; readonly prepared: Prepared<RegisterRecipe, Case<GuestOperation>> } {
  const rigs = makeRigs(seed, RIG_CPUS);
  const host = { tsc: { khz: tscKhz, high: askTscHigh() }, ...limits };
  return { rigs, prepared: { arbitrary: recipes(rigs.length), resolve: (recipe) => resolve(recipe, rigs, host) } };
}
