/**
 * KVM_GET_LAPIC and KVM_SET_LAPIC: 1,024 bytes, register r at byte r, little-endian, with the ID fix-up that depends on the
 * gate (kvm_apic_get_state, kvm_apic_set_state, kvm_apic_state_fixup in arch/x86/kvm/lapic.c).
 *
 * In xAPIC mode the bytes pass as they are. In x2APIC mode:
 * - gate off: the ID is in bits 31:24 of the state (and so loses its upper bits); what a caller sets there is ignored.
 * - gate on: the ID is the 32-bit ID; a caller that sets another one gets -EINVAL, with SPIV changed already, as in KVM.
 * - LDR is made from the ID. ICR is split into ICR and ICR2.
 * Bytes that belong to no register are kept and given back, as KVM does.
 */
import { setVersion } from './base.ts';
import type { ApicCore } from './core.ts';
import { x2apicLogicalId } from './fields.ts';
import { INBOX } from './layout.ts';
import { REG, STATE_BYTES } from './registers.ts';

const ICR_UPPER = REG.ICR + 4; // where ICR[63:32] lives when it is one 64-bit register

/** Fills `bytes` with the state. */
export function readState(core: ApicCore, bytes: Uint8Array): void {
  const { memory } = core;
  bytes.set(core.page);
  const count = core.timer.currentCount();
  for (let i = 0; i < 4; i++) bytes[REG.TMCCT + i] = count >>> (8 * i);
  if (!core.x2apicMode) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset, STATE_BYTES);
  if (!memory.options.x2apicFormat && core.rules.idFixup) view.setUint32(REG.ID, core.register(REG.ID) << 24, true);
  if (!memory.options.x2apicIcrSplit) view.setUint32(REG.ICR2, view.getUint32(ICR_UPPER, true), true);
}

/** Takes `bytes` as the state. False is -EINVAL. The map is marked dirty, not rebuilt. */
export function writeState(core: ApicCore, bytes: Uint8Array): boolean {
  const { memory, words, a, rules } = core;
  const view = new DataView(bytes.buffer, bytes.byteOffset, STATE_BYTES);
  const x2apic = core.x2apicMode;
  core.setSpurious(view.getInt32(REG.SPIV, true));
  if (x2apic && memory.options.x2apicFormat && rules.idMismatch && view.getUint32(REG.ID, true) !== core.apicId) {
    return false;
  }
  core.page.set(bytes.length === STATE_BYTES ? bytes : bytes.subarray(0, STATE_BYTES));
  if (x2apic) {
    const keepsId = memory.options.x2apicFormat || rules.x2apicIdReadOnly;
    const id = keepsId ? core.apicId : view.getUint32(REG.ID, true) >>> 24;
    core.setRegister(REG.ID, id);
    if (rules.x2apicLdr) core.setRegister(REG.LDR, x2apicLogicalId(id));
    if (!memory.options.x2apicIcrSplit) words[core.icrHighWord] = view.getInt32(REG.ICR2, true);
  }
  core.identityChanged();
  if (rules.versionReadOnly) setVersion(core);
  core.priority.update(); // from the ISR cache of before: it is counted anew only below
  core.timer.cancel();
  core.timer.updateMode();
  core.timer.updateDivisor();
  core.timer.startFromCurrentCount();
  core.priority.recount();
  Atomics.store(words, a + INBOX.ARB_PRIORITY, 0);
  return true;
}
