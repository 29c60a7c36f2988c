/** Who takes an interrupt for 0x23 when the CPUs 0x23 and 0x123 are both in xAPIC mode? No KVM, no guest, no thread. */
import { ApicSystem, REG } from 'apiary/apic';

for (const x2apicFormat of [false, true]) {
  const system = new ApicSystem({ x2apicFormat, behaviour: 'kvm' });
  for (const apicId of [0, 0x23, 0x123]) system.addApic(apicId).writeMmio(REG.SPIV, 4, 0x1ff); // software enable
  const { map, scan } = system.explain({ destination: 0x23, vector: 0x31 });
  const taken = system.signalMsi(0xfee2_3000, 0, 0x31);
  console.log(
    `gate ${x2apicFormat ? 'on' : 'off'}: ${map === null ? 'by scan' : 'by map'}, taken by ${taken} of ${scan.length}`,
  );
}
