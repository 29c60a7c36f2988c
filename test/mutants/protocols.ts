/**
 * The protocols in shared memory, broken one by one, against the schedules that `apiary explore` tries: those by name, then
 * every atomic write made plain and every two neighbouring accesses swapped (protocol-edits.ts).
 */
import { type Mutant, type MutantList, unitTests } from './mutant.ts';
import { madePlain, swapped } from './protocol-edits.ts';
import { WAKE_UP } from './wake-up.ts';

const inApic = (name: string): string => `src/apic/${name}.ts`;
const inMachine = (name: string): string => `src/machine/${name}.ts`;

const [MAP, LOCK, PORT, CORE, SYSTEM, ROUTER] = ['map', 'lock', 'port', 'core', 'system', 'router'].map(inApic) as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const APIC_FILES = [MAP, LOCK, PORT, CORE, SYSTEM, ...['vectors', 'identity', 'base', 'local-apic'].map(inApic)];
const [SCHEDULER, SIGNALS, OUTBOX] = ['loop/scheduler', 'shared/signals', 'shared/outbox'].map(inMachine) as [
  string,
  string,
  string,
];
const MACHINE_FILES = [
  SCHEDULER,
  SIGNALS,
  OUTBOX,
  ...['shared/mailbox', 'shared/shared', 'worker-pool'].map(inMachine),
];

const AFTERWARDS = "its author's next access is an atomic write, which empties the buffer before anybody counts on it";
const IN_ORDER = 'stores leave an x86 buffer in order, and an atomic write that follows empties it';
const UNPUBLISHED = 'nobody reads this before a later store tells of it';

/** By how a mutant's name begins: why it breaks no promise. */
const HARMLESS: readonly (readonly [name: string, why: string])[] = [
  ['apic/map.ts plain: Atomics.store(this.#words, HEADER.MAP_DIRTY', AFTERWARDS],
  ['apic/map.ts plain: Atomics.store(words, HEADER.MAP_BUILDING', IN_ORDER],
  ['apic/map.ts plain: Atomics.store(words, HEADER.MAP_PUBLISHED', IN_ORDER],
  [
    'apic/port.ts plain: if (this.#memory.rules.initReplacesEvents)',
    'an INIT that arrives later is one that was sent later',
  ],
  ['apic/port.ts plain: else Atomics.or(words, a + INBOX.EVENTS', 'runs only while the rule is switched off'],
  ['apic/port.ts plain: Atomics.store(words, a + INBOX.SIPI_VECTOR', IN_ORDER],
  ['apic/system.ts plain: Atomics.store(words, HEADER.COUNT', IN_ORDER],
  ['apic/base.ts plain: if (enabled', 'BASE_MODIFIED is only ever set, and read by snapshots alone'],
  ['apic/base.ts plain: Atomics.store(words, a + ', AFTERWARDS],
  [
    'apic/local-apic.ts plain: Atomics.store(this.#words, this.#a + INBOX.SIPI_VECTOR',
    'a state is restored: nobody sends yet',
  ],
  ['apic/local-apic.ts plain: Atomics.or(this.#words, this.#a + INBOX.EVENTS', 'a state is restored: nobody sends yet'],
  ['apic/map.ts swapped: words[m + MAP.', UNPUBLISHED],
  [
    'apic/identity.ts swapped: words[r + ',
    'MAP_DIRTY comes after all of them; a scan in between may see either, as in KVM',
  ],
  ['apic/system.ts swapped: words[this.#memory.identity(index) + IDENTITY.APIC_ID]', UNPUBLISHED],
  ['apic/base.ts swapped: ', 'all of it is before the end of a reset, and what came in before that is discarded'],
  [
    'apic/local-apic.ts swapped: Atomics.store(this.#words, this.#a + INBOX.SIPI_VECTOR',
    'a state is restored: nobody sends yet',
  ],
  [
    'machine/loop/scheduler.ts plain: Atomics.store(words, this.#guest, GUEST_NONE)',
    'who sees the old value sends a kick too many',
  ],
  [
    'machine/loop/scheduler.ts plain: Atomics.store(words, this.#guest, GUEST_IDLE)',
    'Atomics.wait takes a lock, which empties the buffer, and looks at attention once more',
  ],
  [
    'machine/loop/scheduler.ts plain: Atomics.or(this.#words, this.#attention, Attention.stop)',
    'the worker leaves: no other bit matters to it',
  ],
  ['machine/shared/signals.ts plain: Atomics.store(words, shared.request(vcpuIndex), 1)', IN_ORDER],
  ['machine/shared/mailbox.ts plain: Atomics.store(words, state, BoxState.request)', IN_ORDER],
  [
    'machine/shared/mailbox.ts plain: Atomics.store(words, state, BoxState.empty)',
    'worker 0 looks for requests, and what it still sees is its own answer',
  ],
  [
    'machine/shared/mailbox.ts plain: Atomics.store(words, state, BoxState.answer)',
    'Atomics.notify takes a lock, which empties the buffer',
  ],
  [
    'machine/shared/shared.ts plain: Atomics.store(this.words, this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.home',
    'nobody sends to a vCPU that does not exist yet',
  ],
  ['machine/worker-pool.ts plain: Atomics.store(shared.words, pause, 1)', IN_ORDER],
  [
    'machine/worker-pool.ts plain: Atomics.store(shared.words, pause, 0)',
    'Atomics.notify takes a lock, which empties the buffer',
  ],
  [
    'machine/worker-pool.ts plain: if (this.#connection) Atomics.store(',
    'the number of workers is stored before the last of them starts',
  ],
  [
    'machine/shared/shared.ts plain: Atomics.add(this.words, this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.changes',
    'its owner alone counts, and the store of the state that follows empties the buffer',
  ],
  [
    'machine/shared/shared.ts plain: Atomics.store(this.words, this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.runState',
    'a vCPU that comes to run has its ready bit set until an atomic write after this one; one that halts is seen late',
  ],
  [
    'machine/shared/shared.ts swapped: Atomics.add(this.words, this.#vcpus + vcpuIndex * VCPU_WORDS + VcpuWord.changes',
    'its ready bit is set from before it comes to run until after both',
  ],
  [
    'machine/shared/shared.ts swapped: const state = Atomics.load(words, at + VcpuWord.runState)',
    'the count, which is read after both, tells whether they belong together',
  ],
  ['machine/loop/scheduler.ts swapped: Atomics.or(this.#words, this.#row', 'its own worker looks at both, later'],
  [
    'machine/shared/signals.ts swapped: signalWorker(shared, worker, Attention.stop)',
    'who sleeps meanwhile looks up after its time limit, which is there for that',
  ],
  [
    'machine/shared/signals.ts swapped: Atomics.notify(shared.words, shared.worker(worker, WorkerWord.boxState))',
    'two words, two sleepers',
  ],
  ...['operation', 'addressLow', 'addressHigh', 'size', 'valueLow'].map(
    (word) => [`machine/shared/mailbox.ts swapped: words[box + WorkerWord.${word}]`, UNPUBLISHED] as const,
  ),
  ['machine/shared/mailbox.ts swapped: const address', 'both are loaded between request and answer'],
  [
    'machine/shared/outbox.ts swapped: Atomics.add(',
    'the sum is the same, and a limit is met one message later at most',
  ],
];

/** Protocol statements of code that needs real threads: hold-and-start stands for it with a port of its own. */
const NOT_EXPLORED = /worker-pool.ts swapped: this.#members/;

const NAMED_APIC: readonly Mutant[] = [
  {
    name: 'the map is marked dirty before the change is in the record',
    file: CORE,
    find: '    this.publish();\n    this.map.markDirty();\n',
    replace: '    this.map.markDirty();\n    this.publish();\n',
  },
  {
    name: 'MAP_DIRTY becomes UPDATING, and CLEAN, by stores',
    file: MAP,
    find: 'Atomics.compareExchange(words, HEADER.MAP_DIRTY, DIRT.UPDATING, DIRT.CLEAN);',
    replace: 'Atomics.store(words, HEADER.MAP_DIRTY, DIRT.CLEAN);',
  },
  {
    name: 'a reader does not look at BUILDING afterwards',
    file: ROUTER,
    find: 'if (((Atomics.load(words, HEADER.MAP_BUILDING) - serial) | 0) <= 1) return found;',
    replace: 'return found;',
  },
  {
    name: 'a reader takes two serials apart for whole',
    file: ROUTER,
    find: '- serial) | 0) <= 1) return found;',
    replace: '- serial) | 0) <= 2) return found;',
  },
  {
    name: 'the map is built without the lock',
    file: MAP,
    find: "lock(words, HEADER.MAP_LOCK, 'a rebuild of the APIC map');",
    replace: '',
  },
  {
    name: 'who finds the map dirty and the lock held does not wait',
    file: MAP,
    find: "lock(words, HEADER.MAP_LOCK, 'a rebuild of the APIC map');",
    replace:
      "if (Atomics.load(words, HEADER.MAP_LOCK) !== 0) return;\n    lock(words, HEADER.MAP_LOCK, 'a rebuild of the APIC map');",
  },
  {
    name: 'INIT leaves a SIPI that waits (an or, not a store)',
    file: PORT,
    find: 'if (this.#memory.rules.initReplacesEvents) Atomics.store(words, a + INBOX.EVENTS, APIC_EVENT.INIT);\n        else',
    replace: '',
  },
  {
    name: 'ACRN: INIT and SIPI to all but self reach nobody',
    file: ROUTER,
    find: 'return shorthand === SHORTHAND.ALL || !isSender ? REASON.SHORTHAND : REASON.NONE;',
    replace: 'return shorthand === SHORTHAND.ALL ? REASON.SHORTHAND : REASON.NONE;',
  },
  {
    name: 'unlock wakes nobody',
    file: LOCK,
    find: ' === CONTENDED) Atomics.notify(words, at, 1);',
    replace: ' === CONTENDED) return;',
  },
  {
    name: 'who sleeps for a lock does not say so',
    file: LOCK,
    find: 'Atomics.exchange(words, at, CONTENDED) !== FREE',
    replace: 'Atomics.exchange(words, at, HELD) !== FREE',
  },
  {
    name: 'addApic takes no lock',
    file: SYSTEM,
    find: "    lock(words, HEADER.ADD_LOCK, 'the adding of an APIC');\n",
    replace: '',
  },
];

const NAMED_MACHINE: readonly Mutant[] = [
  ...WAKE_UP,
  {
    name: '`guest` is published after the request is looked at',
    file: SCHEDULER,
    find: `      if (words[request] !== 0) {
        Atomics.store(words, this.#guest, GUEST_NONE);
        continue;
      }
`,
    replace: `      Atomics.store(words, this.#guest, GUEST_NONE);
      if (words[request] !== 0) continue;
      Atomics.store(words, this.#guest, guestCode(cpu.vcpuIndex, sliceEnd !== Number.POSITIVE_INFINITY));
`,
  },
  {
    name: '`guest` is published after attention is looked at',
    file: SCHEDULER,
    find: 'if (words[this.#attention] !== 0) {',
    replace: `Atomics.store(words, this.#guest, GUEST_NONE);
      const seen = words[this.#attention] !== 0;
      Atomics.store(words, this.#guest, guestCode(cpu.vcpuIndex, sliceEnd !== Number.POSITIVE_INFINITY));
      if (seen) {`,
  },
  {
    name: 'OpenVMM: the request is cleared after the APIC was evaluated',
    file: SCHEDULER,
    find: '      if (woken) Atomics.store(words, request, 0);\n      if (!interrupts.prepare(woken)) {',
    replace:
      '      const ready = interrupts.prepare(woken);\n      if (woken) Atomics.store(words, request, 0);\n      if (!ready) {',
  },
  {
    name: 'OpenVMM: the request is cleared by a relaxed (plain) store',
    file: SCHEDULER,
    find: 'if (woken) Atomics.store(words, request, 0);',
    replace: 'if (woken) words[request] = 0;',
  },
  {
    name: 'a sender looks at `guest` before it stores the request',
    file: SIGNALS,
    find: `  Atomics.store(words, shared.request(vcpuIndex), 1);
  const bit`,
    replace: `  const seen = Atomics.load(words, shared.worker(home, WorkerWord.guest));
  Atomics.store(words, shared.request(vcpuIndex), 1);
  if (home !== self && seen === 0) {
    const now = 1 << (vcpuIndex & 31);
    Atomics.or(words, shared.readyRow(home) + (vcpuIndex >>> 5), now);
    Atomics.or(words, shared.worker(home, WorkerWord.attention), Attention.reschedule);
    return;
  }
  const bit`,
  },
  {
    name: 'whether all are halted for good: a count is read before the ready bit',
    file: inMachine('shared/shared'),
    find: `      const ready = Atomics.load(words, this.readyRow(words[at + VcpuWord.home]) + (vcpuIndex >>> 5));
      if (((ready >>> (vcpuIndex & 31)) & 1) !== 0 || Atomics.load(words, at + VcpuWord.request) !== 0) return -1;
      // Last: who was woken before, and has halted again since its count was read, would look as if it had never run.
      changes += Atomics.load(words, at + VcpuWord.changes);
`,
    replace: `      changes += Atomics.load(words, at + VcpuWord.changes);
      const ready = Atomics.load(words, this.readyRow(words[at + VcpuWord.home]) + (vcpuIndex >>> 5));
      if (((ready >>> (vcpuIndex & 31)) & 1) !== 0 || Atomics.load(words, at + VcpuWord.request) !== 0) return -1;
`,
  },
  {
    name: 'main wakes nobody when it has taken a message',
    file: OUTBOX,
    find: '  Atomics.notify(shared.words, backlog);\n',
    replace: '',
  },
  {
    name: 'a pause that is over wakes nobody',
    file: inMachine('worker-pool'),
    find: '      Atomics.notify(shared.words, pause);\n',
    replace: '',
  },
];

/** Most of what these two files write is the owner's own, where the order is a matter of one thread. */
const isBetweenThreads = ({ file, name }: Mutant): boolean =>
  !['core', 'base'].map(inApic).includes(file) || /publishIdentity|Atomics.*<->.*Atomics/.test(name);

/** Each with a name of its own, and why it is harmless if it is. @throws Error for a reason of an area that is no mutant's */
function complete(area: string, mutants: readonly Mutant[]): Mutant[] {
  const seen = new Map<string, number>();
  const used = new Set<string>();
  const explorable = mutants.filter(({ name }) => !NOT_EXPLORED.test(name));
  const completed = explorable.map((mutant) => {
    const count = (seen.get(mutant.name) ?? 0) + 1;
    seen.set(mutant.name, count);
    const name = count === 1 ? mutant.name : `${mutant.name} (${count})`;
    const [start, equivalent] = HARMLESS.find((each) => name.startsWith(each[0])) ?? [];
    if (start !== undefined) used.add(start);
    return { ...mutant, name, ...(equivalent === undefined ? {} : { equivalent }) };
  });
  const unused = HARMLESS.find(([start]) => start.startsWith(area) && !used.has(start));
  if (unused !== undefined) throw new Error(`harmless, but no mutant: ${unused[0]}`);
  return completed;
}

export const apicProtocols: MutantList = {
  name: 'apic-protocols',
  scenarios: ['map-', 'lock-', 'add-', 'port-'],
  tests: unitTests('apic', 'events', 'ipi', 'lock', 'priority', 'state', 'xapic'),
  mutants: complete('apic/', [
    ...NAMED_APIC,
    ...madePlain(APIC_FILES),
    ...swapped(APIC_FILES).filter(isBetweenThreads),
  ]),
};

export const machineProtocols: MutantList = {
  name: 'machine-protocols',
  scenarios: ['wake-', 'mailbox-', 'outbox-', 'pic-', 'pause-', 'hold-', 'park-', 'stop-', 'halted-'],
  mutants: complete('machine/', [...NAMED_MACHINE, ...madePlain(MACHINE_FILES), ...swapped(MACHINE_FILES)]),
};
