/**
 * Guests for machines without KVM (src/machine/scripted-machine.ts), by the name after `?`: what their KVM_RUNs come to, for
 * ever unless said otherwise. `flood-*` are hostile: each asks something of the monitor without end.
 */
import { spawnSync } from 'node:child_process';
import { openSync, readdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';

const EXIT = { io: 2, hlt: 5, intr: 10, mmio: 6, rdmsr: 29, wrmsr: 30 };
const COM1 = 0x3f8;
const DEBUG_EXIT = 0xf4;
const HOTPLUG = 0xcd8;
const CRTC = 0x3d4;
const TEXT_PAGE = 0xb8000;

const out = (ioPort, value, ioSize = 1) => ({ exitReason: EXIT.io, ioIsOut: true, ioPort, ioSize, ioData: [value] });
const input = (ioPort, ioSize = 1) => ({ exitReason: EXIT.io, ioIsOut: false, ioPort, ioSize, ioData: [0] });
const wrmsr = (msrIndex, msrDataLow, msrDataHigh = 0) => ({ exitReason: EXIT.wrmsr, msrIndex, msrDataLow, msrDataHigh });
/** Its answer is in the vCPU's kvm_run at the step after. */
const rdmsr = (msrIndex) => ({ exitReason: EXIT.rdmsr, msrIndex });
const nothing = { exitReason: EXIT.intr };

function* say(text) {
  for (const byte of Buffer.from(text)) yield out(COM1, byte);
}

function* forEver(...steps) {
  for (;;) yield* steps;
}

/** Characters of code page 437 onto the text page. @param cell from its start */
function show(ram, cell, codes) {
  [...codes].forEach((code, index) => {
    ram[TEXT_PAGE + 2 * (cell + index)] = code;
    ram[TEXT_PAGE + 2 * (cell + index) + 1] = 7;
  });
}

/** x2APIC mode, software-enabled; the boot CPU starts the others. */
function* start({ bootstrap }) {
  yield wrmsr(0x1b, 0xfee0_0c00 | (bootstrap ? 0x100 : 0));
  yield wrmsr(0x80f, 0x1ff);
  if (!bootstrap) return;
  yield wrmsr(0x830, 0xc_4500);
  yield wrmsr(0x830, 0xc_4601);
}

export const guests = {
  *hello() {
    yield* say('hello from a script\n');
    yield out(DEBUG_EXIT, 0);
  },
  /** Code that broke out into the worker's thread, and what it can do there. */
  *escape() {
    const attempts = {
      'open for reading': () => openSync('/etc/passwd'),
      'open for writing': () => writeFileSync('/tmp/apiary-escaped', ''),
      'read /proc/self': () => readFileSync('/proc/self/maps'),
      'list a directory': () => readdirSync('/'),
      'look at a path': () => statSync('/etc/passwd'),
      'delete a file': () => unlinkSync('/tmp/apiary-nothing'),
      execute: () => {
        const { error, status } = spawnSync('/bin/true');
        if (error) throw error;
        if (status !== 0) throw Object.assign(new Error(), { code: `status ${status}` });
      },
      'signal another process': () => process.kill(process.ppid, 0),
      'signal itself by kill': () => process.kill(process.pid, 0),
    };
    for (const [name, attempt] of Object.entries(attempts)) {
      let answer = 'done';
      try {
        attempt();
      } catch (error) {
        answer = error.code;
      }
      yield* say(`${name}: ${answer}\n`);
    }
    yield* say('escape: over\n');
    yield out(DEBUG_EXIT, 0);
  },
  /** All 256 characters, and what would name the terminal's window; then it says R and spins. */
  *'screen-hostile'(_cpu, ram) {
    show(ram, 0, Buffer.from('\x1b]0;pwned\x07\x1b[2J\x9b31m'));
    show(ram, 160, Uint8Array.from({ length: 256 }, (_, code) => code));
    yield* say('R\n');
    yield* forEver(nothing);
  },
  /** Two pages of text, the second one shown, then it ends. */
  *'screen-page'(_cpu, ram) {
    show(ram, 0, Buffer.from('the first page'));
    show(ram, 2000, Buffer.from('the second page'));
    yield out(CRTC, 0x0c);
    yield out(CRTC + 1, 2000 >> 8);
    yield out(CRTC, 0x0d);
    yield out(CRTC + 1, 2000 & 0xff);
    yield* say('a line\nand a half');
    yield out(DEBUG_EXIT, 0);
  },
  /** Shows one picture until a key comes, then another, and ends. */
  *'screen-key'(_cpu, ram) {
    show(ram, 0, Buffer.from('press a key'));
    const status = input(COM1 + 5);
    do yield status;
    while ((status.ioData[0] & 1) === 0);
    show(ram, 0, Buffer.from('thank you  '));
    yield out(DEBUG_EXIT, 0);
  },
  /** Counts on the screen, without end, faster than anyone can look. */
  *'flood-screen'(_cpu, ram) {
    for (let count = 0; ; count++) {
      show(ram, 80, Buffer.from(`tick ${count}`));
      if (count % 100 === 0) yield* say(`line ${count}\n`);
      yield nothing;
    }
  },
  *spin() {
    yield* say('R\n');
    yield* forEver(nothing);
  },
  /** Says so and sleeps: what it said is out, which of a guest that spins is only certain with KVM's EINTR. */
  *sleep() {
    yield* say('R\n');
    yield* forEver({ exitReason: EXIT.hlt, ifFlag: true });
  },
  /** Sends back what it receives; `q` ends it. */
  *echo() {
    yield* say('R\n');
    for (;;) {
      const status = input(COM1 + 5);
      yield status;
      if ((status.ioData[0] & 1) === 0) continue;
      const data = input(COM1);
      yield data;
      yield out(COM1, data.ioData[0]);
      if (data.ioData[0] === 'q'.charCodeAt(0)) break;
    }
    yield out(DEBUG_EXIT, 0);
  },
  /** Lines with numbers, so that one that is missing or doubled shows. 100,000 of them. */
  *count() {
    for (let line = 0; line < 100_000; line++) yield* say(`line ${line}\n`);
    yield out(DEBUG_EXIT, 0);
  },
  *'flood-serial'() {
    for (let line = 0; ; line++) yield* say(`line ${line}\n`);
  },
  'flood-newlines': () => forEver(out(COM1, 10)),
  'flood-debug-console': () => forEver(out(0xe9, 0x78), out(0x402, 0x78)),
  'flood-unclaimed': () => forEver(out(0x999, 1), input(0x999), input(0x99c, 4)),
  *'flood-ost'() {
    yield out(HOTPLUG, 0, 4); // CPU 0
    for (;;) {
      yield out(HOTPLUG + 5, 1); // OST event
      yield out(HOTPLUG + 8, 3, 4);
      yield out(HOTPLUG + 5, 2); // OST status
      yield out(HOTPLUG + 8, 0, 4);
    }
  },
  'flood-reset': () => forEver(out(0xcf9, 6)),
  'flood-init': () => forEver(out(0x64, 0xfe)),
  *'flood-broadcast'(cpu) {
    yield* start(cpu);
    yield* forEver(wrmsr(0x830, 0xc_0041)); // vector 0x41 to all but self
  },
  *'flood-shouting'(cpu) {
    yield* start(cpu);
    for (;;) {
      yield wrmsr(0x830, 0xc_0041);
      yield* say('shouting\n');
    }
  },
  *'flood-halt'() {
    yield wrmsr(0x1b, 0xfee0_0d00);
    yield wrmsr(0x80f, 0x1ff);
    for (;;) {
      yield wrmsr(0x83f, 0x41); // self-IPI
      yield { exitReason: EXIT.hlt };
    }
  },
  /** Sleeps until its APIC timer rings. */
  *nap(cpu) {
    yield* start(cpu);
    yield wrmsr(0x832, 0x31);
    yield wrmsr(0x83e, 0xb);
    yield wrmsr(0x838, 20_000_000);
    yield { exitReason: EXIT.hlt, ifFlag: true };
    yield* say('rung\n');
    yield out(DEBUG_EXIT, 0);
  },
  *halt() {
    yield { exitReason: EXIT.hlt, ifFlag: false };
  },
  *broken() {
    yield* say('last words');
  },
  /** The boot CPU starts the other and sleeps; that one prints, and wakes it. */
  *relay(cpu) {
    yield* start(cpu);
    if (cpu.bootstrap) {
      yield { exitReason: EXIT.hlt, ifFlag: true };
      yield* say('woken\n');
      yield out(DEBUG_EXIT, 0);
    } else {
      yield* say('from the other CPU\n');
      yield wrmsr(0x830, 0x4041); // vector 0x41 to APIC ID 0
      yield* forEver({ exitReason: EXIT.hlt, ifFlag: true });
    }
  },
  /** Begins on main (machine/opening.ts) and goes on on a thread, where the script is another copy of itself. */
  *moving() {
    if (isMainThread) {
      yield* say('on main\n');
      yield wrmsr(0x1b, 0xfee0_0d00);
      yield wrmsr(0x80f, 0x1ff);
      yield wrmsr(0x808, 0x50);
      yield out(COM1 + 7, 0x5a);
      yield* forEver(nothing);
    }
    const scratch = input(COM1 + 7);
    yield scratch;
    const answers = [];
    for (const msr of [0x1b, 0x808]) {
      yield rdmsr(msr);
      yield (vcpu) => {
        answers.push(vcpu.run.msrDataLow);
        return nothing;
      };
    }
    const mode = (answers[0] & 0xc00) === 0xc00 ? 'x2APIC' : 'another';
    const words = `scratch 0x${scratch.ioData[0].toString(16)}, mode ${mode}, TPR 0x${answers[1].toString(16)}`;
    yield* say(`on a thread: ${words}\n`);
    yield out(DEBUG_EXIT, 0);
  },
  /** The same, asleep; the other CPU wakes it all the time. */
  *'moving-asleep'(cpu) {
    if (!cpu.bootstrap || isMainThread) yield* start(cpu);
    if (!cpu.bootstrap) yield* forEver(wrmsr(0x830, 0x4400)); // NMI to APIC ID 0
    if (isMainThread) {
      yield* say('on main\n');
      yield* forEver({ exitReason: EXIT.hlt, ifFlag: true });
    }
    yield* say('awake on a thread\n');
    yield out(DEBUG_EXIT, 0);
  },
  /** Sleeps for ever: its own TPR holds back the interrupt that it waits for. */
  *'hang-tpr'() {
    yield wrmsr(0x1b, 0xfee0_0d00);
    yield wrmsr(0x80f, 0x1ff);
    yield wrmsr(0x808, 0x50);
    yield wrmsr(0x83f, 0x41);
    yield out(0x999, 1);
    yield { exitReason: EXIT.hlt, ifFlag: true };
  },
};

export function guest(cpu, ram) {
  const name = decodeURIComponent(new URL(import.meta.url).search.slice(1));
  return guests[name](cpu, ram);
}
