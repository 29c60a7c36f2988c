/** Scenarios of the senders' half: what is sent is found, as it was sent, by whoever runs the vCPU. */
import { APIC_EVENT, type ApicSystem, DELIVERY, type LocalApic, REG, SHORTHAND } from '../../apic/index.ts';
import type { AnyScenario, Scenario } from '../scenario.ts';
import { type ApicWorld, apics } from './apic-world.ts';

const VECTOR = 0x31;
/** In the same word of IRR and TMR. */
const OTHER_VECTOR = 0x32;
const TARGET = 1;
const TARGET_ID = 0x23;
const START_PAGE = 8;
/** The scenario's own words. */
const WOKEN = 0;
const EOIS = 1;

const world = (): ReturnType<typeof apics> => apics({ x2apicFormat: false }, [0, TARGET_ID], ['WOKEN', 'EOIs seen']);

interface Message {
  readonly vector?: number;
  readonly deliveryMode?: number;
  readonly trigMode?: boolean;
}

const send = (system: ApicSystem, message: Message): number =>
  system.deliver({ destination: TARGET_ID, vector: VECTOR, ...message });

/** A thread that sends messages, in order. @returns how many were taken */
const sender =
  (...messages: readonly Message[]) =>
  ({ attach }: ApicWorld) => {
    const system = attach();
    return () => messages.reduce((taken, message) => taken + send(system, message), 0);
  };

/** The owner of the target, who reports EOIs of level-triggered interrupts in a word of the scenario's. */
const owner =
  (body: (apic: LocalApic, eois: () => number) => number) =>
  ({ attach, words }: ApicWorld) => {
    const own = words();
    const system = attach({ eoi: () => void own[EOIS]++ });
    const apic = system.apic(TARGET);
    return () => body(apic, () => own[EOIS] as number);
  };

/** Takes what is there, ends it. @returns 0 if there was nothing, 1 for edge, 2 for level */
function takeOne(apic: LocalApic, eois: () => number): number {
  const before = eois();
  if (apic.acknowledge() < 0) return 0;
  apic.eoi();
  return eois() === before ? 1 : 2;
}

const TMR_BEFORE_IRR = 'TMR before IRR (an owner that sees the IRR bit must see its trigger mode)';
const MODES = ['not taken', 'edge', 'level'];

const level: Scenario<ApicWorld> = {
  name: 'port-level-after-nothing',
  from: 'apic/layout.ts',
  promise: TMR_BEFORE_IRR,
  world,
  threads: { 'owner of vCPU 1': owner(takeOne), sender: sender({ trigMode: true }) },
  check: (_world, [taken]) => (taken === 1 ? 'a level-triggered interrupt was taken as edge-triggered' : ''),
};

const edge: Scenario<ApicWorld> = {
  name: 'port-edge-after-level',
  from: 'apic/layout.ts',
  promise: TMR_BEFORE_IRR,
  world: () => {
    const made = world();
    const system = made.world.attach();
    send(system, { trigMode: true });
    system.apic(TARGET).acknowledge();
    system.apic(TARGET).eoi(); // TMR stays set
    return made;
  },
  threads: { 'owner of vCPU 1': owner(takeOne), sender: sender({}) },
  check: (_world, [taken]) => (taken === 2 ? 'an edge-triggered interrupt was taken as level-triggered' : ''),
};

const twoModes: Scenario<ApicWorld> = {
  name: 'port-one-vector-two-modes',
  from: 'apic/layout.ts',
  promise: 'page IRR senders (or), owner (and)',
  world,
  threads: {
    'owner of vCPU 1': owner(takeOne),
    'sender, edge': sender({}),
    'sender, level': sender({ trigMode: true }),
  },
  check: ({ attach }, [taken, first, second]) => {
    const apic = attach().apic(TARGET);
    const left = apic.acknowledge() === VECTOR;
    if (first !== 1 || second !== 1) return `${(first ?? 0) + (second ?? 0)} of 2 messages were taken`;
    return taken === 0 && !left ? 'both messages were taken, and the interrupt is lost' : '';
  },
};

const neighbours: Scenario<ApicWorld> = {
  name: 'port-two-vectors-of-one-word',
  from: 'apic/layout.ts',
  promise: 'page TMR senders (or, and), before IRR',
  world,
  threads: {
    'owner of vCPU 1': owner(takeOne),
    'sender, level': sender({ trigMode: true }),
    'sender, level, the next vector': sender({ trigMode: true, vector: OTHER_VECTOR }),
  },
  check: ({ attach, words }, [first]) => {
    const apic = attach({ eoi: () => void words()[EOIS]++ }).apic(TARGET);
    const modes = [first ?? 0];
    for (let i = 0; i < 2; i++) modes.push(takeOne(apic, () => words()[EOIS] as number));
    const taken = modes.filter((mode) => mode !== 0);
    return taken.length === 2 && !taken.includes(1)
      ? ''
      : `two level-triggered interrupts came out as: ${modes.map((mode) => MODES[mode]).join(', ')}`;
  },
};

/** The owner sleeps until it is woken, then must find what woke it. */
function wakes(name: string, what: string, message: Message, find: (apic: LocalApic) => boolean): Scenario<ApicWorld> {
  return {
    name: `port-wake-by-${name}`,
    from: 'apic/layout.ts',
    promise: 'bits before wake (whoever wakes up must find why)',
    world,
    threads: {
      'owner of vCPU 1': ({ attach, words }) => {
        const own = words();
        const apic = attach().apic(TARGET);
        return () => {
          while (Atomics.load(own, WOKEN) === 0) Atomics.wait(own, WOKEN, 0);
          return find(apic) ? 1 : 0;
        };
      },
      sender: ({ attach, words }) => {
        const own = words();
        const wake = (vcpuIndex: number): void => {
          if (vcpuIndex !== TARGET) return;
          Atomics.store(own, WOKEN, 1);
          Atomics.notify(own, WOKEN);
        };
        const system = attach({ wake });
        return () => send(system, message);
      },
    },
    check: (_world, [found, sent]) => (found === sent ? '' : `the owner was woken, and finds no ${what}`),
  };
}

const wakeUps = [
  wakes('interrupt', 'vector', {}, (apic) => apic.acknowledge() === VECTOR),
  wakes('lowest-priority', 'vector', { deliveryMode: DELIVERY.LOWEST }, (apic) => apic.acknowledge() === VECTOR),
  wakes('nmi', 'NMI', { deliveryMode: DELIVERY.NMI }, (apic) => apic.takeNmis() === 1),
  wakes('init', 'INIT', { deliveryMode: DELIVERY.INIT }, (apic) => apic.takeEvents() === APIC_EVENT.INIT),
  wakes('remote-read', 'event', { deliveryMode: DELIVERY.REMOTE_READ }, (apic) => apic.takeEvents() !== 0),
];

const sipi: Scenario<ApicWorld> = {
  name: 'port-sipi-vector',
  from: 'apic/layout.ts',
  promise: 'inbox SIPI_VECTOR senders (store), before EVENTS owner, after EVENTS',
  world,
  threads: {
    'owner of vCPU 1': owner((apic) => {
      const events = apic.takeEvents();
      return events & APIC_EVENT.SIPI ? apic.sipiVector : START_PAGE;
    }),
    sender: sender({ deliveryMode: DELIVERY.INIT, vector: 0 }, { deliveryMode: DELIVERY.STARTUP, vector: START_PAGE }),
  },
  check: (_world, [page]) => (page === START_PAGE ? '' : `the vCPU starts at page ${page}, not at ${START_PAGE}`),
};

const initSipi: Scenario<ApicWorld> = {
  name: 'port-init-and-sipi',
  from: 'apic/layout.ts',
  promise: 'inbox EVENTS senders (INIT stores, SIPI ors) owner (exchange)',
  world,
  threads: {
    // A vCPU that runs, until it takes the INIT: then it waits for the SIPI.
    'owner of vCPU 1': owner((apic) => {
      const first = apic.takeEvents(false);
      return first | (apic.takeEvents((first & APIC_EVENT.INIT) !== 0) << 8);
    }),
    'sender of INIT, SIPI': sender(
      { deliveryMode: DELIVERY.INIT, vector: 0 },
      { deliveryMode: DELIVERY.STARTUP, vector: START_PAGE },
    ),
    'sender of mode 3': sender({ deliveryMode: DELIVERY.REMOTE_READ }),
  },
  check: ({ attach }, [taken]) => {
    const all = [(taken ?? 0) & 0xff, (taken ?? 0) >> 8, attach().apic(TARGET).takeEvents()];
    for (const [name, bit] of Object.entries({ INIT: APIC_EVENT.INIT, SIPI: APIC_EVENT.SIPI })) {
      const count = all.filter((events) => (events & bit) !== 0).length;
      if (count !== 1) return `one ${name} was sent, ${count} are taken`;
    }
    return '';
  },
};

const initOverSipi: Scenario<ApicWorld> = {
  name: 'port-init-discards-sipi',
  from: 'apic/layout.ts',
  promise: 'inbox EVENTS senders (INIT stores, SIPI ors) owner (exchange)',
  world: () => {
    const made = world();
    send(made.world.attach(), { deliveryMode: DELIVERY.STARTUP, vector: START_PAGE });
    return made;
  },
  threads: {
    'owner of vCPU 1': owner((apic) => apic.takeEvents()),
    sender: sender({ deliveryMode: DELIVERY.INIT, vector: 0 }),
  },
  check: ({ attach }, [taken]) => {
    const both = APIC_EVENT.INIT | APIC_EVENT.SIPI;
    const isBoth = taken === both || attach().apic(TARGET).takeEvents() === both;
    return isBoth ? 'an INIT leaves the SIPI that came before it' : '';
  },
};

function counted(name: string, deliveryMode: number, take: (apic: LocalApic) => number): Scenario<ApicWorld> {
  return {
    name: `port-${name}-counted`,
    from: 'apic/layout.ts',
    promise: 'inbox NMIS, SMIS senders (add) owner (exchange)',
    world: () => apics({ x2apicFormat: false, smm: true }, [0, TARGET_ID]),
    threads: {
      'owner of vCPU 1': owner(take),
      'a sender': sender({ deliveryMode }),
      'another sender': sender({ deliveryMode }),
    },
    check: ({ attach }, [taken, first, second]) => {
      const left = take(attach().apic(TARGET));
      return (taken ?? 0) + left === (first ?? 0) + (second ?? 0)
        ? ''
        : `2 ${name} were sent, ${taken} taken, ${left} left`;
    },
  };
}

const counts = [
  counted('nmis', DELIVERY.NMI, (apic) => apic.takeNmis()),
  counted('smis', DELIVERY.SMI, (apic) => apic.takeSmis()),
];

const disable: Scenario<ApicWorld> = {
  name: 'port-disable-and-enable',
  from: 'apic/layout.ts',
  promise: 'page IRR senders (or), owner (and)',
  world,
  threads: {
    'owner of vCPU 1': owner((apic) => {
      apic.writeMmio(REG.SPIV, 4, 0xff);
      apic.writeMmio(REG.SPIV, 4, 0x1ff);
      return apic.acknowledge() === VECTOR ? 1 : 0;
    }),
    sender: ({ attach }) => {
      const system = attach();
      return () => Math.max(0, send(system, {}));
    },
  },
  check: ({ attach }, [taken, told]) => {
    const left = attach().apic(TARGET).highestRequested() === VECTOR ? 1 : 0;
    return (taken ?? 0) + left === told ? '' : `the sender was told ${told}; ${taken} taken, ${left} pending`;
  },
};

const acknowledge: Scenario<ApicWorld> = {
  name: 'port-take-one-send-another',
  from: 'apic/layout.ts',
  promise: 'page IRR senders (or), owner (and)',
  world: () => {
    const made = world();
    send(made.world.attach(), { vector: OTHER_VECTOR });
    return made;
  },
  threads: {
    'owner of vCPU 1': owner((apic) => apic.acknowledge()),
    sender: sender({}),
    'another sender': sender({ vector: OTHER_VECTOR + 1 }),
  },
  check: ({ attach }, [taken]) => {
    const apic = attach().apic(TARGET);
    const left = apic.snapshot().requested.length;
    return (taken ?? -1) >= 0 && left === 2 ? '' : `three vectors were sent, one taken, ${left} left`;
  },
};

const arbitration: Scenario<ApicWorld> = {
  name: 'port-arbitration-count',
  from: 'apic/layout.ts',
  promise: 'inbox ARB_PRIORITY senders (add), owner (store 0) senders',
  world: () => apics({ x2apicFormat: false, vectorHashing: false }, [0, TARGET_ID]),
  threads: {
    'a sender': sender({ deliveryMode: DELIVERY.LOWEST }),
    'another sender': sender({ deliveryMode: DELIVERY.LOWEST, vector: OTHER_VECTOR }),
  },
  check: ({ attach }) => {
    const system = attach();
    // Who took two loses the next two, and the third by its index.
    const takes = [0x51, 0x52, 0x53].map((vector) => {
      system.apic(0).writeMmio(REG.LDR, 4, 1 << 24);
      system.apic(TARGET).writeMmio(REG.LDR, 4, 2 << 24);
      system.deliver({ destination: 3, logical: true, vector, deliveryMode: DELIVERY.LOWEST });
      return system.apic(TARGET).snapshot().requested.includes(vector) ? TARGET : 0;
    });
    return takes.every((vcpuIndex) => vcpuIndex === 0)
      ? ''
      : `the next three go to vCPUs ${takes.join(', ')}: one of two was not counted`;
  },
};

const allButSelf: Scenario<ApicWorld> = {
  name: 'port-start-all-but-self',
  from: 'apic/layout.ts',
  promise: 'inbox EVENTS senders (INIT stores, SIPI ors) owner (exchange)',
  world: () => apics({ x2apicFormat: false }, [0, TARGET_ID, 0x40]),
  threads: {
    'boot CPU': ({ attach }) => {
      const apic = attach().apic(0);
      const all = SHORTHAND.ALL_BUT_SELF << 18;
      return () => {
        apic.writeMmio(REG.ICR, 4, all | 0x4000 | (DELIVERY.INIT << 8));
        apic.writeMmio(REG.ICR, 4, all | 0x4000 | (DELIVERY.STARTUP << 8) | START_PAGE);
      };
    },
    'owner of vCPU 1': owner((apic) => apic.takeEvents() | (apic.takeEvents() << 8)),
    'owner of vCPU 2': ({ attach }) => {
      const apic = attach().apic(2);
      return () => apic.takeEvents() | (apic.takeEvents() << 8);
    },
  },
  check: ({ attach }, results) => {
    const system = attach();
    for (const index of [1, 2]) {
      const taken = results[index] ?? 0;
      const left = system.apic(index).takeEvents();
      const events = (taken | (taken >> 8) | left) & 0xff;
      if (events !== (APIC_EVENT.INIT | APIC_EVENT.SIPI)) return `vCPU ${index} got events ${events} of INIT and SIPI`;
    }
    return system.apic(0).takeEvents() === 0 ? '' : 'the sender started itself';
  },
};

export const PORT_SCENARIOS: readonly AnyScenario[] = [
  level,
  edge,
  twoModes,
  neighbours,
  ...wakeUps,
  sipi,
  initSipi,
  initOverSipi,
  ...counts,
  disable,
  acknowledge,
  arbitration,
  allButSelf,
];
