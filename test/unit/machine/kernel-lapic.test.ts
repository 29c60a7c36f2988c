/** KVM's page and APIC base, read as a snapshot. */
import { expect, test } from 'vitest';
import { ApicSystem } from '../../../src/apic/index.ts';
import { kernelLapicSnapshot } from '../../../src/machine/loop/kernel-lapic.ts';
import { ScriptedHost } from '../../../src/machine/loop/scripted-host.ts';
import { ScriptedVcpu } from '../../../src/machine/loop/scripted-vcpu.ts';

test('tells what the page and the base say, under the vCPU s own index', () => {
  const apic = new ApicSystem({ maxApics: 1, maxApicId: 0x123, x2apicFormat: true }).addApic(0x123);
  apic.setApicBaseFromHost(0xfee0_0c00, 0);
  apic.writeMsr(0x808, 0x20, 0); // TPR
  apic.writeMsr(0x80f, 0x1fe, 0); // SPIV
  const { vcpu } = new ScriptedVcpu(new ScriptedHost(), []);
  vcpu.setLapic(apic.getState());
  vcpu.setMsrs([{ index: 0x1b, value: 0xfee0_0c00n }]);
  const snapshot = kernelLapicSnapshot(vcpu, { vcpuIndex: 3, apicId: 0x123, use32bitIds: true, nowNanos: 5 });
  expect(snapshot).toEqual({ ...apic.snapshot(), vcpuIndex: 3, counters: snapshot.counters });
});
