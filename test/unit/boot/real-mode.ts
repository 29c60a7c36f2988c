/** A model of the few real-mode instructions that the firmware is made of, to run it without a CPU. */
import { le } from './images.ts';

const FIRMWARE = 0xf0000;

export class RealMode {
  readonly ram: Uint8Array;
  readonly out: [port: number, value: number][] = [];
  /** What IN answers, by port. */
  in: (port: number) => number = () => 0xff;
  ax = 0;
  dx = 0;
  bp = 0;
  /** The top is the last one. */
  readonly stack: number[] = [];
  /** Where it went: IRET, HLT, or a far jump by memory to this linear address. */
  end: 'iret' | 'hlt' | number | undefined;
  #ip: number;
  #frame = 0;
  #equal = false;

  /** @param ip offset in segment F000 */
  constructor(ram: Uint8Array, ip: number) {
    this.ram = ram;
    this.#ip = ip;
  }

  run(): this {
    for (let steps = 0; this.end === undefined; steps++) {
      if (steps === 100) throw new Error('it does not end');
      this.#step();
    }
    return this;
  }

  #code(at: number): number {
    return this.ram[FIRMWARE + this.#ip + at] ?? 0;
  }

  #word(at: number): number {
    return le(this.ram, FIRMWARE + this.#ip + at, 2);
  }

  #step(): void {
    const opcode = this.#code(0);
    const wide = opcode * 256 + this.#code(1);
    const entry = LONG.get(wide) ?? SHORT.get(opcode);
    if (entry === undefined) throw new Error(`instruction ${wide.toString(16)} at F000:${this.#ip.toString(16)}`);
    const [bytes, act] = entry;
    const { byte, word, ip } = { byte: this.#code(bytes - 1), word: this.#word(bytes - 2), ip: this.#ip + bytes };
    this.#ip = ip;
    act(this, byte, word);
  }

  jump(displacement: number): void {
    this.#ip = (this.#ip + displacement) & 0xffff;
  }

  call(displacement: number): void {
    this.stack.push(this.#ip);
    this.jump(displacement);
  }

  enterFrame(): void {
    this.#frame = this.stack.length - 1;
  }

  frame(offset: number): number {
    return this.stack[this.#frame - offset / 2] ?? 0;
  }

  setFrame(offset: number, value: number): void {
    this.stack[this.#frame - offset / 2] = value;
  }

  compareAh(value: number): void {
    this.#equal = this.ax >> 8 === value;
  }

  jumpIfEqual(displacement: number): void {
    if (this.#equal) this.jump(displacement);
  }

  pop(): number {
    return this.stack.pop() ?? 0;
  }
}

type Instruction = readonly [bytes: number, act: (cpu: RealMode, byte: number, word: number) => void];
const signed = (byte: number): number => (byte << 24) >> 24;

/** By the first byte. `byte` is the instruction's last, `word` its last two. */
const SHORT = new Map<number, Instruction>([
  [
    0x2d,
    [
      3,
      (cpu, _, word) => {
        cpu.ax = (cpu.ax - word) & 0xffff;
      },
    ],
  ],
  [0x50, [1, (cpu) => void cpu.stack.push(cpu.ax)]],
  [0x52, [1, (cpu) => void cpu.stack.push(cpu.dx)]],
  [0x55, [1, (cpu) => void cpu.stack.push(cpu.bp)]],
  [
    0x58,
    [
      1,
      (cpu) => {
        cpu.ax = cpu.pop();
      },
    ],
  ],
  [
    0x5a,
    [
      1,
      (cpu) => {
        cpu.dx = cpu.pop();
      },
    ],
  ],
  [
    0x5d,
    [
      1,
      (cpu) => {
        cpu.bp = cpu.pop();
      },
    ],
  ],
  [0x74, [2, (cpu, byte) => cpu.jumpIfEqual(signed(byte))]],
  [
    0xb0,
    [
      2,
      (cpu, byte) => {
        cpu.ax = (cpu.ax & 0xff00) | byte;
      },
    ],
  ],
  [
    0xba,
    [
      3,
      (cpu, _, word) => {
        cpu.dx = word;
      },
    ],
  ],
  [
    0xcf,
    [
      1,
      (cpu) => {
        cpu.end = 'iret';
      },
    ],
  ],
  [
    0xe4,
    [
      2,
      (cpu, byte) => {
        cpu.ax = (cpu.ax & 0xff00) | cpu.in(byte);
      },
    ],
  ],
  [0xe6, [2, (cpu, byte) => void cpu.out.push([byte, cpu.ax & 0xff])]],
  [0xe8, [3, (cpu, _, word) => cpu.call(word)]],
  [0xe9, [3, (cpu, _, word) => cpu.jump(word)]],
  [0xee, [1, (cpu) => void cpu.out.push([cpu.dx, cpu.ax & 0xff])]],
  [0xef, [1, (cpu) => void cpu.out.push([cpu.dx, cpu.ax])]],
  [
    0xf4,
    [
      1,
      (cpu) => {
        cpu.end = 'hlt';
      },
    ],
  ],
  [0xfa, [1, () => {}]],
]);

/** By the first two bytes. */
const LONG = new Map<number, Instruction>([
  [
    0x31c0,
    [
      2,
      (cpu) => {
        cpu.ax = 0;
      },
    ],
  ],
  [0x804e, [4, (cpu, byte) => cpu.setFrame(8, cpu.frame(8) | byte)]],
  [0x80fc, [3, (cpu, byte) => cpu.compareAh(byte)]],
  [
    0x83c2,
    [
      3,
      (cpu, byte) => {
        cpu.dx += byte;
      },
    ],
  ],
  [0x83c4, [3, (cpu) => void cpu.pop()]],
  [
    0x88c4,
    [
      2,
      (cpu) => {
        cpu.ax = (cpu.ax & 0xff) | ((cpu.ax & 0xff) << 8);
      },
    ],
  ],
  [0x89e5, [2, (cpu) => cpu.enterFrame()]],
  [
    0x8b46,
    [
      3,
      (cpu, byte) => {
        cpu.ax = cpu.frame(byte);
      },
    ],
  ],
  [0x8ed8, [2, () => {}]],
  [
    0xd1e8,
    [
      2,
      (cpu) => {
        cpu.ax >>= 1;
      },
    ],
  ],
  [
    0xff2e,
    [
      4,
      (cpu, _, word) => {
        cpu.end = le(cpu.ram, word, 2) + 16 * le(cpu.ram, word + 2, 2);
      },
    ],
  ],
]);
