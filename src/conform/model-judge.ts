/**
 * src/apic as a judge, without KVM: for the host's operations and for a guest's. What KVM keeps outside the APIC (mp_state,
 * NMIs and SMIs that a vCPU has taken) is in model-cpu.ts. Time stands still, but for a guest that waits.
 */
import { type ApicMode, ApicSystem, type ApicSystemOptions } from '../apic/index.ts';
import { MpState } from '../kvm/constants.ts';
import { clearState, PageTracker, putState } from './host-machine.ts';
import { ModelCpu } from './model-cpu.ts';
import { byName, mayStartCpus } from './operations.ts';
import {
  type Case,
  type GuestOperation,
  type HostOperation,
  isGuestOperation,
  type Judge,
  type MachineSpec,
  type Outcome,
  type Result,
  runsGuest,
  SKIPPED,
  startState,
} from './spec.ts';

/** The TSC when a list starts: any deadline below has passed. */
const TSC_START = 1n << 40n;
const DEFAULT_TSC_KHZ = 1_000_000;

/** Told of everything that the model does, for coverage. */
export interface ModelObserver {
  built?(system: ApicSystem): void;
  host?(operation: HostOperation, answer: number, position: number): void;
  guest?(operation: GuestOperation, result: Result, before: ApicMode, after: ApicMode): void;
  took?(event: 'INIT' | 'SIPI' | 'NMI' | 'interrupt' | 'timer interrupt'): void;
  /** What is wrong with the last machine whatever a reference says, in lines. */
  wrong?(): string[] | undefined;
}

export class ModelJudge implements Judge {
  readonly name = 'model';
  readonly #observer: ModelObserver;
  readonly #options: ApicSystemOptions;
  readonly #pages = new PageTracker(() => 0);
  #system = new ApicSystem({ shared: false, maxApics: 1 });
  #cpus: ModelCpu[] = [];
  #events: string[] = [];
  #now = 0;
  readonly #clock = (): number => this.#now;

  /** @param options the host's properties, the behaviour and the rules to break; the machine says the rest */
  constructor(options: ApicSystemOptions, observer: ModelObserver = {}) {
    this.#options = options;
    this.#observer = observer;
  }

  /** Of the last machine. */
  get system(): ApicSystem {
    return this.#system;
  }

  carryOut(candidate: Case): Outcome {
    const { machine, operations } = candidate;
    const guest = runsGuest(candidate);
    this.build(machine, guest);
    if (guest) return this.#runGuest(operations.filter(isGuestOperation));
    const observer = this.#observer;
    observer.built?.(this.#system);
    const answers = this.#pages.run(candidate, {
      cpus: this.#cpus,
      signalMsi: this.#system.signalMsi.bind(this.#system),
      did: (operation, answer, position) => observer.host?.(operation, answer, position),
    });
    return { ...answers, cpus: [], events: [], nanos: 0 };
  }

  close(): void {
    this.#cpus = [];
  }

  /** The machine as it is before the first operation. @param guest one will run on it */
  build({ x2apicFormat, broadcastQuirkDisabled, apics, bootstrap }: MachineSpec, guest: boolean): void {
    this.#now = 0;
    this.#events = [];
    this.#system = new ApicSystem(
      {
        ...this.#options,
        x2apicFormat,
        broadcastQuirkDisabled,
        maxApics: Math.max(apics.length, 1),
        maxApicId: apics.reduce((max, { apicId }) => Math.max(max, apicId), 255),
        lateMapEntry: true, // the states that follow rebuild the map
        shared: false,
      },
      { nowNanos: this.#clock, guestTsc: () => this.#tsc() },
    );
    this.#cpus = apics.map(({ apicId }) => {
      const apic = this.#system.addApic(apicId, { bootstrap: apicId === bootstrap });
      const cpu = new ModelCpu(apic, guest ? MpState.RUNNABLE : startState(apicId), this.#observer, this.#clock);
      clearState(apic);
      return cpu;
    });
    for (const [i, spec] of apics.entries()) {
      putState(this.#cpus[i].apic, spec, x2apicFormat, guest);
      if (guest) this.#cpus[i].noteCount();
    }
  }

  #runGuest(operations: readonly GuestOperation[]): Outcome {
    const results = operations.map((operation, i) => this.#guest(operation, i));
    for (const cpu of this.#cpus) if (cpu.runs) cpu.takeNmis(operations.length);
    const cpus = this.#cpus.map((cpu) => cpu.outcome());
    return { start: [], results, cpus, events: this.#events.toSorted(byName), nanos: this.#now };
  }

  #guest(operation: GuestOperation, position: number): Result {
    const cpu = this.#cpus[operation.cpu];
    if (!cpu.runs) return { low: 0, high: 0, fault: SKIPPED };
    cpu.takeNmis(position);
    cpu.expire();
    const before = cpu.apic.mode;
    const result = cpu.guest(operation, position);
    if (operation.kind === 'wait') this.#now += (operation.low / this.#tscKhz) * 1e6;
    if (operation.kind.endsWith('write') || operation.kind === 'wrmsr') cpu.noteCount();
    cpu.expire();
    const after = cpu.apic.mode;
    if (mayStartCpus(operation)) this.#acceptEvents(position, operation.cpu);
    if (cpu.runs) cpu.takeNmis(position);
    this.#observer.guest?.(operation, result, before, after);
    return result;
  }

  /** @param sender the CPU of an operation that can start CPUs, which takes its own INIT half-way through it */
  #acceptEvents(position: number, sender: number): void {
    const others = [...this.#cpus.keys()].filter((i) => i !== sender);
    for (const i of [sender, ...others]) {
      const words = this.#cpus[i].acceptEvents();
      this.#events.push(...words.map((what) => `cpu ${i}: ${what} by operation ${position + 1}`));
    }
  }

  get #tscKhz(): number {
    return this.#options.tscKhz ?? DEFAULT_TSC_KHZ;
  }

  #tsc(): bigint {
    return TSC_START + (BigInt(Math.trunc(this.#now)) * BigInt(this.#tscKhz)) / 1_000_000n;
  }
}
