/**
 * IA32_APIC_BASE, what hangs on it (IDs, LDR), and reset. Only the owner calls these; the map is marked dirty, not rebuilt.
 *
 * Rules: kvm_apic_set_base, __kvm_apic_set_base, kvm_apic_set_version and kvm_lapic_reset of arch/x86/kvm/lapic.c; SDM
 * vol. 3A, 12.4.7 (state after power-up, reset, INIT), 12.12.5 (x2APIC state transitions).
 */
import type { ApicCore } from './core.ts';
import { BASE, baseMode, DFR, LVT, MODE, makeVersion, makeXapicId, SPIV, x2apicLogicalId } from './fields.ts';
import { CONTROL, HEADER, INBOX } from './layout.ts';
import { LVT_OFFSETS, REG } from './registers.ts';

/** A write to IA32_APIC_BASE. False is #GP, or the host's error: nothing has changed then. */
export function setBase(core: ApicCore, low: number, high: number, fromHost: boolean): boolean {
  const { words, a } = core;
  const { physicalAddressBits, x2apicCpuid } = core.memory.options;
  const before = words[a + CONTROL.BASE_LOW];
  if (before === (low | 0) && words[a + CONTROL.BASE_HIGH] === (high | 0)) return true;
  const reserved = BASE.RESERVED_LOW | (x2apicCpuid ? 0 : BASE.EXTD);
  if ((low & reserved) !== 0 || high >>> 0 >= 2 ** (physicalAddressBits - 32)) return false;
  const from = baseMode(before);
  const to = baseMode(low);
  if (to === MODE.INVALID) return false;
  if (!fromHost && core.rules.baseTransitions) {
    if (from === MODE.X2APIC && to === MODE.XAPIC) return false;
    if (from === MODE.DISABLED && to === MODE.X2APIC) return false;
  }
  storeBase(core, low, high);
  return true;
}

/** __kvm_apic_set_base: no checks. */
function storeBase(core: ApicCore, low: number, high: number): void {
  const { words, a } = core;
  const changed = words[a + CONTROL.BASE_LOW] ^ low;
  words[a + CONTROL.BASE_LOW] = low;
  words[a + CONTROL.BASE_HIGH] = high;
  const enabled = (low & BASE.ENABLE) !== 0;
  const x2apic = (low & BASE.EXTD) !== 0;
  if ((changed & BASE.ENABLE) !== 0) {
    if (enabled) setXapicId(core);
    else core.identityChanged();
  }
  if ((changed & BASE.EXTD) !== 0) {
    if (x2apic) setX2apicId(core);
    else if (enabled && core.rules.xapicIdOnLeavingX2apic) setXapicId(core);
    else if (enabled) core.publish(); // older kernels leave the map as it was
  }
  if (enabled && ((low & ~0xfff) !== BASE.DEFAULT_LOW || high !== 0)) Atomics.store(words, HEADER.BASE_MODIFIED, 1);
}

function setXapicId(core: ApicCore): void {
  if (core.rules.xapicIdOnEnable) core.setRegister(REG.ID, makeXapicId(core.apicId));
  core.identityChanged();
}

function setX2apicId(core: ApicCore): void {
  core.setRegister(REG.ID, core.apicId);
  core.setRegister(REG.LDR, x2apicLogicalId(core.apicId));
  core.identityChanged();
}

/** The version register: how many LVT entries there are, and whether EOI-broadcast suppression is offered. */
export function setVersion(core: ApicCore): void {
  const { x2apicCpuid, suppressEoiBroadcast, ioapicInKernel } = core.memory.options;
  const offered = suppressEoiBroadcast === 'quirk' ? !ioapicInKernel : suppressEoiBroadcast === 'enabled';
  core.setRegister(REG.VERSION, makeVersion(core.lvtEntries, x2apicCpuid && offered));
}

/**
 * Power-up, or INIT, which keeps IA32_APIC_BASE and with it mode and ID, and in x2APIC mode the LDR. Registers that are not
 * named here keep their value.
 */
export function resetRegisters(core: ApicCore, init: boolean): void {
  const { words, a, timer } = core;
  const bootstrap = words[a + CONTROL.BOOTSTRAP] !== 0;
  if (!init || !core.rules.initKeepsX2apic) {
    storeBase(core, BASE.DEFAULT_LOW | BASE.ENABLE | (bootstrap ? BASE.BSP : 0), 0);
  }
  timer.stop();
  if (!init) {
    core.setRegister(REG.ID, makeXapicId(core.apicId)); // even if it was enabled all the time
    Atomics.store(words, a + INBOX.EVENTS, 0);
  }
  setVersion(core);
  for (let i = 0; i < core.lvtEntries; i++) core.setRegister(LVT_OFFSETS[i], LVT.MASKED);
  timer.updateMode();
  if (bootstrap && core.memory.options.lint0Reenabled) core.setRegister(REG.LVT_LINT0, LVT.RESET_BSP_LINT0);
  core.setRegister(REG.DFR, DFR.FLAT);
  core.setRegister(REG.SPIV, SPIV.RESET);
  for (const offset of [REG.TPR, REG.ESR, REG.ICR, REG.TDCR, REG.TMICT]) core.setRegister(offset, 0);
  if (core.x2apicMode) {
    core.clearUpperIcr(); // as one 64-bit register, even where the vendor splits ICR
  } else {
    core.setRegister(REG.LDR, 0);
    core.setRegister(REG.ICR2, 0);
  }
  for (let bank = 0; bank < 8; bank++) {
    core.setRegister(REG.ISR + (bank << 4), 0);
    core.setRegister(REG.TMR + (bank << 4), 0);
    Atomics.store(words, a + ((REG.IRR + (bank << 4)) >>> 2), 0);
  }
  core.priority.recount();
  timer.updateDivisor();
  timer.clearPending();
  core.priority.update();
  Atomics.store(words, a + INBOX.NMIS, 0);
  Atomics.store(words, a + INBOX.ARB_PRIORITY, 0);
  core.identityChanged();
}
