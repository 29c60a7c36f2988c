/**
 * Layer 2: registers, through a guest. The same list of operations is carried out by a guest on KVM's own APICs, by the same
 * guest on ours, and by the model alone; results, faults, interrupts taken in order, and the register pages at the end have
 * to be equal. A case, for the speed, is one operation.
 */
import type { ApicSystemOptions } from '../../apic/index.ts';
import type { Prepared, Suite } from '../campaign.ts';
import { Coverage } from '../coverage.ts';
import { shorterLists } from '../minimise.ts';
import { makeRigs, type RigSpec } from '../rigs.ts';
import { compareOutcomes, type Difference, isHostsAffair } from './compare.ts';
import { describeDifferences, describeRegisterCase } from './describe.ts';
import { type RegisterRecipe, recipes, resolve, unitsOf } from './generate.ts';
import { KernelRig } from './kernel-rig.ts';
import { RegisterModel } from './model.ts';
import type { RegisterCase, RegisterJudge } from './operations.ts';
import { askTscHigh, probeMachine } from './probe.ts';
import { RegisterObserver, registerCoverage } from './register-coverage.ts';
import { UserRig } from './user-rig.ts';

const RIG_CPUS = 8;
/**
 * What fails is tried again if time may be to blame: a list takes milliseconds, and counters that are meant to outlast it may
 * not if a busy host stalls it for a second; and two NMIs may become one if the first is late.
 */
const SLOW_MILLIS = 1000;
const ATTEMPTS = 5;

interface Wrong {
  readonly differences: readonly Difference[];
  readonly judges: readonly [string, string];
}

interface Pair {
  readonly kernel: RegisterJudge;
  readonly user: RegisterJudge;
}

export class Layer2 implements Suite<RegisterRecipe, RegisterCase> {
  cases = 0;
  /** Lists on the same machines: making those costs half a second. */
  readonly batch = 1000;
  readonly coverage: Coverage;
  readonly #options: ApicSystemOptions;
  readonly #pairs = new Map<string, Pair>();
  #seed: number | undefined;
  readonly #model: RegisterModel;

  /**
   * Makes and boots the machines: two for each setting of the gates.
   * @param model the host's properties (probeHost), the behaviour, the rules to break
   * @param seed of the first batch: chooses the APIC IDs
   * @throws KvmError when the host has no KVM that can be used
   */
  static async create(model: ApicSystemOptions, seed: number): Promise<Layer2> {
    const layer = new Layer2({ ...model, ...(await probeMachine()) });
    await layer.prepare(seed);
    return layer;
  }

  private constructor(options: ApicSystemOptions) {
    this.#options = options;
    this.coverage = new Coverage(registerCoverage(options));
    this.#model = new RegisterModel(options);
    this.#model.observer = new RegisterObserver(this.coverage);
  }

  async prepare(seed: number): Promise<Prepared<RegisterRecipe, RegisterCase>> {
    const rigs = makeRigs(seed, RIG_CPUS);
    if (this.#seed !== seed) {
      this.close();
      for (const rig of rigs) {
        this.#pairs.set(key(rig), {
          kernel: await KernelRig.create(rig),
          user: await UserRig.create(rig, this.#options),
        });
      }
      this.#seed = seed;
    }
    const tsc = { khz: this.#options.tscKhz ?? 1_000_000, high: askTscHigh() };
    return { arbitrary: recipes(rigs.length), resolve: (recipe) => resolve(recipe, rigs, tsc) };
  }

  judge(candidate: RegisterCase): string[] | undefined {
    this.cases += candidate.operations.length;
    for (let attempt = 1; ; attempt++) {
      const start = Date.now();
      const wrong = this.#judgeOnce(candidate);
      if (wrong === undefined) return undefined;
      const slow = Date.now() - start > SLOW_MILLIS;
      if (attempt === ATTEMPTS || !(slow || wrong.differences.every(isHostsAffair))) {
        return describeDifferences(wrong.differences, wrong.judges);
      }
    }
  }

  #judgeOnce(candidate: RegisterCase): Wrong | undefined {
    const { operations } = candidate;
    const pair = this.#pairs.get(key(candidate.machine));
    if (pair === undefined) throw new Error('there is no machine for this case');
    const expected = pair.kernel.carryOut(candidate);
    const model = this.#model.carryOut(candidate);
    const tolerance = { allowed: this.#model.allowed, finalCounts: this.#model.finalCounts };
    const byModel = compareOutcomes(operations, expected, model, tolerance);
    if (byModel.length > 0) return { differences: byModel, judges: ['kernel', 'model'] };
    const byUser = compareOutcomes(operations, expected, pair.user.carryOut(candidate), tolerance);
    return byUser.length > 0 ? { differences: byUser, judges: ['kernel', 'our machine'] } : undefined;
  }

  *shorter({ machine, operations }: RegisterCase): Generator<RegisterCase> {
    for (const fewer of shorterLists(unitsOf(operations))) yield { machine, operations: fewer.flat() };
    for (const i of machine.apics.keys()) {
      if (machine.apics.length === 1 || operations.some(({ cpu }) => cpu === i)) continue;
      const fewer = operations.map((each) => (each.cpu > i ? { ...each, cpu: each.cpu - 1 } : each));
      yield { machine: { ...machine, apics: machine.apics.toSpliced(i, 1) }, operations: fewer };
    }
    for (const [i, apic] of machine.apics.entries()) {
      for (const at of apic.registers.keys()) {
        const plainer = { ...apic, registers: apic.registers.toSpliced(at, 1) };
        yield { machine: { ...machine, apics: machine.apics.with(i, plainer) }, operations };
      }
    }
  }

  describe(candidate: RegisterCase): string[] {
    return describeRegisterCase(candidate);
  }

  close(): void {
    for (const { kernel, user } of this.#pairs.values()) {
      kernel.close();
      user.close();
    }
    this.#pairs.clear();
  }
}

const key = (rig: Pick<RigSpec, 'x2apicFormat' | 'broadcastQuirkDisabled' | 'rig'>): string =>
  `${Number(rig.x2apicFormat)}${Number(rig.broadcastQuirkDisabled)}:${rig.rig.join()}`;
