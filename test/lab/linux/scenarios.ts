/** What a Linux is put through, by name: the machine it boots on, and the CPUs that come and go. */
import type { MachineOptions } from 'apiary';

export interface Scenario {
  readonly options: MachineOptions;
  /** CPUs that are hot-added in this order, used, and taken back in this order. */
  readonly added: readonly number[];
  /** How many times. */
  readonly rounds: number;
  /** After the words that every Linux gets. */
  readonly commandLine: string;
  /** The run's time limit; with two CPUs a boot takes 30 to 60 s on a quiet machine. */
  readonly seconds: number;
}

const GATE_ON = { use32bitIds: true } as const;
const WIDE = 0x123;
const scenario = (options: MachineOptions, more: Partial<Omit<Scenario, 'options'>> = {}): Scenario => ({
  options: { cpus: [0, 1], x2apicApi: GATE_ON, ...options },
  added: [WIDE],
  rounds: 1,
  commandLine: '',
  seconds: 300,
  ...more,
});

/** IDs over 0xff, no two with the same low byte or the same x2APIC cluster. */
const TEN_WIDE = Array.from({ length: 10 }, (_, index) => 0x101 + 0x11 * index);

export const SCENARIOS = {
  user: scenario({}),
  kernel: scenario({ apic: 'kernel' }),
  hardware: scenario({ behaviour: 'hardware' }),
  'kvm@6.1': scenario({ behaviour: 'kvm@6.1' }),
  'gate-off': scenario({ x2apicApi: {} }),
  sandbox: scenario({ sandbox: true }),
  alias: scenario({ cpus: [0, 1, 0x23] }, { added: [WIDE, 0x1ff] }),
  // Possible: 300, present: 40, ten of them over 0xff. In their parallel start CPUs wait for each other in loops, which takes
  // forever where the host has two.
  many: scenario(
    {
      cpus: Array.from({ length: 30 }, (_, index) => index),
      hotpluggable: [...Array.from({ length: 260 }, (_, index) => 0x200 + index), ...TEN_WIDE],
    },
    { added: TEN_WIDE, rounds: 2, commandLine: 'cpuhp.parallel=0', seconds: 1800 },
  ),
} as const satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof SCENARIOS;
