/**
 * The run loop: what keeps a wake-up from being lost, and the order of events. Then forty at random; SEED is the day they were
 * first chosen.
 */
import { type MutantList, unitTests } from './mutant.ts';
import { randomMutants } from './random.ts';
import { WAKE_UP } from './wake-up.ts';

export const SEED = 20261125;
const RANDOM = 40;
const LOOP = 'src/machine/loop';
const FILES = [
  'apic-doors',
  'cpu-save',
  'cpu-state',
  'cpu',
  'enter',
  'exits',
  'failure',
  'instruction-advice',
  'kernel-interrupts',
  'kernel-lapic',
  'pv-eoi',
  'scheduler',
  'software-interrupts',
  'timer-table',
  'user-interrupts',
].map((name) => `${LOOP}/${name}.ts`);
const SCHEDULER = `${LOOP}/scheduler.ts`;
const USER = `${LOOP}/user-interrupts.ts`;
const SIGNALS = 'src/machine/shared/signals.ts';

const NMI_FORGOTTEN = 'events are not shared any more, so KVM tells of no NMI, and the next return ends it';

const NO_OFFSET = 'any number below 0 is outside of the page';
const NOT_READ =
  'read after a `readMsr` that succeeded, which sets it; after a refused one the guest gets #GP, no value';

const SET_BY_CONSTRUCTOR = 'the constructor publishes a state, which sets it';

/** Of the random ones, whatever the seed. */
const EQUIVALENT: Readonly<Record<string, string>> = {
  [`${LOOP}/kernel-interrupts.ts: readonly settled = true; -> readonly settled = false;`]:
    'who is not settled has its timer looked at, and with an APIC of KVM there is none',
  [`${SCHEDULER}: if (recheckNanos !== Number.POSITIVE_INFINITY) deadline = Math.min(deadline, this.#host.nowNanos() + recheckNanos); -> if (!recheckNanos !== Number.POSITIVE_INFINITY) deadline = Math.min(deadline, this.#host.nowNanos() + recheckNanos);`]:
    'always true, and now plus Infinity is Infinity: the condition only saves a look at the clock',
  [`${LOOP}/timer-table.ts: #due = 0; -> #due = 1;`]: 'the first deadline sets it, and nobody looks before',
  [`${USER}: if (this.#pvEoi?.afterRun() === true) this.settled = false; -> if (this.#pvEoi?.afterRun() === true) this.settled = true;`]:
    'an EOI in silence is offered while nothing waits: it is settled then but for the PICs, which are looked at all the same',
  [`${USER} [2]: this.#nmiUnderWay = false; -> this.#nmiUnderWay = true;`]: NMI_FORGOTTEN,
  [`${USER} [2]: this.#nmiUnderWay = false; -> nothing`]: NMI_FORGOTTEN,
  [`${USER}: settled = false; -> nothing`]: SET_BY_CONSTRUCTOR,
  [`${USER}: settled = false; -> settled = true;`]: SET_BY_CONSTRUCTOR,
  [`${USER}: return this.#takesPic() || this.#apic.pendingVector() >= 0; -> return this.#takesPic() || this.#apic.pendingVector() >= 1;`]:
    'vectors below 16 are of class 0, which is never above PPR',
  [`${USER}: recheckNanos = Number.POSITIVE_INFINITY; -> nothing`]:
    'each `prepare` that lets the vCPU run sets it, before anybody looks',
  [`${USER}: this.settled = false; -> nothing`]:
    'a vector that waits for TPR alone keeps the vCPU unsettled, whatever CR8 does',
  [`${LOOP}/enter.ts: interrupted: 1, -> interrupted: 2,`]: 'any number does that is neither 0 nor an -errno',
  [`${LOOP}/exits.ts: const offset = apic === null ? -1 : apic.mmioOffset(address); -> const offset = apic === null ? -2 : apic.mmioOffset(address);`]:
    NO_OFFSET,
  [`${LOOP}/apic-doors.ts: const NOT_OURS = -1; -> const NOT_OURS = -2;`]: NO_OFFSET,
  [`${LOOP}/apic-doors.ts: msrLow = 0; -> nothing`]: NOT_READ,
  [`${LOOP}/apic-doors.ts: msrLow = 0; -> msrLow = 1;`]: NOT_READ,
  [`${LOOP}/apic-doors.ts: msrHigh = 0; -> nothing`]: NOT_READ,
  [`${LOOP}/apic-doors.ts: msrHigh = 0; -> msrHigh = 1;`]: NOT_READ,
  [`${LOOP}/pv-eoi.ts: if (this.#at === NOWHERE) return false; -> if (this.#at === NOWHERE) return true;`]:
    'true unsettles the vCPU, which is then looked at once more',
  [`${LOOP}/pv-eoi.ts [3]: return true; -> return false;`]:
    'true unsettles the vCPU, which is settled by right: nothing waits',
  [`${SCHEDULER}: return (bits & Attention.reschedule) !== 0; -> return (bits | Attention.reschedule) !== 0;`]:
    'the other vCPUs are looked at by the caller, too: the bit saves that look',
  [`${LOOP}/software-interrupts.ts: const exception = { ...events.exception, injected: 1, nr: BREAKPOINT, hasErrorCode: 0, errorCode: 0, pending: 0 }; -> const exception = { ...events.exception, injected: 1, nr: BREAKPOINT, hasErrorCode: 0, errorCode: 1, pending: 0 };`]:
    'an exception without an error code has none to look at',
  [`${LOOP}/timer-table.ts: if (this.#deadlines[index] < this.next) { -> if (this.#deadlines[index] <= this.next) {`]:
    'of two timers that are due at once either may be first',
  [`${LOOP}/failure.ts: for (let index = 0; index < regs.length; index += REGISTERS_A_LINE) { -> for (let index = 0; index <= regs.length; index += REGISTERS_A_LINE) {`]:
    'the registers are 18, no multiple of 4',
  [`${LOOP}/pv-eoi.ts: this.#offered = false; -> nothing`]:
    'a reset leaves no address: until the next return, which forgets it too, nobody looks',
  [`${LOOP}/pv-eoi.ts: if (this.#at === NOWHERE) return; -> if (!this.#at === NOWHERE) return;`]:
    'what is stored at index -1 of an array of bytes is stored nowhere, and `afterRun` looks at the address itself',
};

export const makeLoop = (seed: number): MutantList => ({
  name: 'loop',
  tests: unitTests(
    'machine',
    ...[
      'exits',
      'failure',
      'instruction-advice',
      'software-interrupts',
      'timer-table',
      'cpu-state',
      'pv-eoi',
      'halted',
    ],
    ...['kernel-lapic', 'kernel-interrupts', 'user-interrupts', 'scheduler', 'wake-up'],
  ),
  mutants: [
    ...WAKE_UP,
    {
      name: 'nor at attention',
      file: SCHEDULER,
      find: 'if (words[this.#attention] !== 0) {',
      replace: 'if (words[this.#attention] < 0) {',
    },
    {
      name: 'the owner looks before it publishes `guest`',
      file: SCHEDULER,
      find: 'Atomics.store(words, this.#guest, guestCode(cpu.vcpuIndex, sliceEnd !== Number.POSITIVE_INFINITY));',
      replace: '',
    },
    {
      name: 'the owner clears the request after it evaluated the APIC',
      file: SCHEDULER,
      find: '      if (woken) Atomics.store(words, request, 0);\n      if (!interrupts.prepare(woken)) {',
      replace:
        '      const ready = interrupts.prepare(woken);\n      if (woken) Atomics.store(words, request, 0);\n      if (!ready) {',
    },
    {
      name: 'a sleeper does not publish that it sleeps',
      file: SCHEDULER,
      find: 'Atomics.store(words, this.#guest, GUEST_IDLE);',
      replace: '',
    },
    {
      name: 'a sleeper waits for a word that is not attention',
      file: SCHEDULER,
      find: 'this.#host.wait(words, this.#attention, 0, waitMs)',
      replace: 'this.#host.wait(words, this.#guest, GUEST_IDLE, waitMs)',
    },
    {
      name: 'a vCPU that became ready does not make the one that runs share',
      file: SCHEDULER,
      find: 'Atomics.or(this.#words, this.#attention, Attention.reschedule);',
      replace: '',
    },
    {
      name: 'timers are not looked at before an exit is handled',
      file: SCHEDULER,
      find: 'if (this.#timers.next !== Number.POSITIVE_INFINITY) this.#expireTimers(this.#host.nowNanos());',
      replace: '',
    },
    {
      name: 'a sender does not store the request',
      file: SIGNALS,
      find: 'Atomics.store(words, shared.request(vcpuIndex), 1);',
      replace: '',
    },
    {
      name: 'a sender sets no attention for a vCPU that becomes ready',
      file: SIGNALS,
      find: 'if (!wasReady) Atomics.or(words, attention, Attention.reschedule);',
      replace: '',
    },
    {
      name: 'a sender stores the request after it looked at `guest`',
      file: SIGNALS,
      find: '  Atomics.store(words, shared.request(vcpuIndex), 1);\n  const bit',
      replace: '  setTimeout(() => Atomics.store(words, shared.request(vcpuIndex), 1));\n  const bit',
    },
    {
      name: 'an NMI that KVM holds does not end HLT',
      file: USER,
      find: 'this.#nmiWaits() || this.#unhalted',
      replace: 'this.#unhalted',
    },
    {
      name: 'mode 3 does not end HLT',
      file: USER,
      find: 'this.#nmiWaits() || this.#unhalted',
      replace: 'this.#nmiWaits()',
    },
    {
      name: 'a masked NMI that KVM holds ends HLT',
      file: USER,
      find: 'this.#run.pendingNmis !== 0 && !this.#run.nmisMasked',
      replace: 'this.#run.pendingNmis !== 0',
    },
    {
      name: 'an interrupt goes in before an NMI that KVM holds',
      file: USER,
      find: '!apic.hasNmi() && !this.#nmiWaits()',
      replace: '!apic.hasNmi()',
    },
    {
      name: 'an interrupt goes in before an NMI that came with it',
      file: USER,
      find: '!apic.hasNmi() && !this.#nmiWaits()',
      replace: '!this.#nmiWaits()',
    },
    {
      name: 'INIT does not finish the exit before it',
      file: USER,
      find: '      completeExit(this.#run);\n      this.#forgetEvents();',
      replace: '      this.#forgetEvents();',
    },
    {
      name: 'the PICs are not looked at by a settled vCPU',
      file: USER,
      find: 'if (this.settled && !woken && this.#shared.words[MachineWord.picInterrupt] === 0) return true;',
      replace: 'if (this.settled && !woken) return true;',
    },
    {
      name: 'a vector that the PIC withdrew is injected',
      file: USER,
      find: '    if (vector < 0) return;\n',
      replace: '',
    },
    {
      name: 'TPR is not looked at again',
      file: USER,
      find: 'blocked ? TPR_RECHECK_NANOS : Number.POSITIVE_INFINITY',
      replace: 'Number.POSITIVE_INFINITY',
    },
    ...randomMutants(FILES, seed, RANDOM, EQUIVALENT),
  ],
});
