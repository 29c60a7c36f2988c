/** What a Linux is put through, by name: the machine it boots on, and the CPUs that come and go. */
import type { MachineOptions } from 'apiary';

export interface Scenario {
  readonly options: MachineOptions;
  /** CPUs that are hot-added in this order, used, and taken back in this order. */
  readonly added: readonly number[];
  /** How many times. */
  readonly rounds: number;
}

const GATE_ON = { use32bitIds: true } as const;
const WIDE = 0x123;
const scenario = (options: MachineOptions, more: Partial<Omit<Scenario, 'options'>> = {}): Scenario => ({
  options: { cpus: [0, 1], x2apicApi: GATE_ON, ...options },
  added: [WIDE],
  rounds: 1,
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
  many: scenario(
    {
      cpus: Array.from({ length: 40 }, (_, index) => index),
      hotpluggable: [...Array.from({ length: 250 }, (_, index) => 0x200 + index), ...TEN_WIDE],
    },
    { added: TEN_WIDE, rounds: 2 },
  ),
} as const satisfies Record<string, Scenario>;

export type ScenarioName = keyof typeof SCENARIOS;
