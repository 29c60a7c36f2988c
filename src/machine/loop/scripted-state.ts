/** The registers and events that a scripted vCPU (scripted-vcpu.ts) holds, and the descriptor that they are read and set by. */
import type { Debugregs, Fpu, Msr, Regs, Sregs, VcpuEvents, Xcr } from '../../kvm/index.ts';
import { kvmDebugregs, kvmFpu, kvmRegs, kvmSregs, kvmVcpuEvents } from '../../kvm/layouts.ts';
import type { VcpuDescriptor } from './vcpu-backend.ts';

const MAX_NMIS = 2;

/** What a vCPU holds; `given` says in words what it was given. */
export class ScriptedState {
  readonly given: string[] = [];
  regs: Regs = { ...zeroes(kvmRegs), rip: 0xfff0n, rflags: 2n };
  sregs: Sregs = { ...zeroes(kvmSregs), cr0: 0x6000_0010n, apicBase: 0xfee0_0000n };
  events: VcpuEvents = zeroes(kvmVcpuEvents);
  debugregs: Debugregs = { ...zeroes(kvmDebugregs), dr6: 0xffff_0ff0n, dr7: 0x400n };
  fpu: Fpu = { ...zeroes(kvmFpu), fcw: 0x37f, mxcsr: 0x1f80 };
  xcrs: Xcr[] = [{ xcr: 0, value: 1n }];
  lapic = new Uint8Array(1024);
  mpState = 0;
  readonly msrs = new Map<number, bigint>();
}

function zeroes<T>(layout: { readonly size: number; read(view: DataView, offset: number): T }): T {
  return layout.read(new DataView(new ArrayBuffer(layout.size)), 0);
}

export class ScriptedDescriptor implements VcpuDescriptor {
  readonly #state: ScriptedState;

  constructor(state: ScriptedState) {
    this.#state = state;
  }

  getRegs = (): Regs => ({ ...this.#state.regs });
  setRegs(regs: Partial<Regs>): void {
    this.#state.regs = { ...zeroes(kvmRegs), ...regs };
    this.#state.given.push('regs');
  }

  getSregs = (): Sregs => structuredClone(this.#state.sregs);
  setSregs(sregs: Sregs): void {
    this.#state.sregs = structuredClone(sregs);
    this.#state.given.push('sregs');
  }

  getVcpuEvents = (): VcpuEvents => structuredClone(this.#state.events);
  setVcpuEvents(events: VcpuEvents): void {
    this.#state.events = structuredClone(events);
    this.#state.given.push('events');
  }

  getDebugregs = (): Debugregs => structuredClone(this.#state.debugregs);
  setDebugregs(debugregs: Debugregs): void {
    this.#state.debugregs = structuredClone(debugregs);
    this.#state.given.push('debugregs');
  }

  getFpu = (): Fpu => structuredClone(this.#state.fpu);
  setFpu(fpu: Fpu): void {
    this.#state.fpu = structuredClone(fpu);
    this.#state.given.push('fpu');
  }

  getXcrs = (): Xcr[] => structuredClone(this.#state.xcrs);
  setXcrs(xcrs: readonly Xcr[]): void {
    this.#state.xcrs = structuredClone([...xcrs]);
    this.#state.given.push('xcrs');
  }

  getMsrs(indexes: readonly number[]): Msr[] {
    return indexes.map((index) => ({ index, value: this.#state.msrs.get(index) ?? 0n }));
  }
  /** None is refused. */
  getMsrsBeforeRefusal(indexes: readonly number[]): Msr[] {
    return this.getMsrs(indexes);
  }

  setMsrs(msrs: readonly Msr[]): void {
    for (const { index, value } of msrs) this.#state.msrs.set(index, value);
    this.#state.given.push('msrs');
  }
  setMsrsBeforeRefusal(msrs: readonly Msr[]): number {
    this.setMsrs(msrs);
    return msrs.length;
  }

  nmi(): void {
    const { nmi } = this.#state.events;
    nmi.pending = Math.min(nmi.pending + 1, MAX_NMIS);
    this.#state.given.push('nmi');
  }

  interrupt(vector: number): boolean {
    const { interrupt } = this.#state.events;
    if (interrupt.injected !== 0) return false;
    interrupt.injected = 1;
    interrupt.nr = vector;
    this.#state.given.push(`interrupt 0x${vector.toString(16)}`);
    return true;
  }

  getLapic(into: Uint8Array = new Uint8Array(1024)): Uint8Array {
    into.set(this.#state.lapic);
    return into;
  }
  setLapic(page: Uint8Array): void {
    this.#state.lapic = page.slice();
    this.#state.given.push('lapic');
  }

  /** A script counts nothing. */
  exits = (): undefined => undefined;

  getMpState = (): number => this.#state.mpState;
  setMpState(state: number): void {
    this.#state.mpState = state;
    this.#state.given.push(`mp state ${state}`);
  }
}
