/** Switches one rule of the APICs off, and sees which messages go elsewhere: what a test of that rule must notice. No KVM. */
import { ApicSystem, REG, RULES, type RuleName } from 'apiary/apic';

/** APIC IDs of those that an interrupt for 0x23 reaches. */
function reached(breakRules: readonly RuleName[]): string {
  const system = new ApicSystem({ x2apicFormat: true, behaviour: 'kvm', breakRules });
  const ids = [0x123, 0x23];
  const apics = ids.map((apicId) => system.addApic(apicId));
  for (const apic of apics) apic.writeMmio(REG.SPIV, 4, 0x1ff);
  system.signalMsi(0xfee2_3000, 0, 0x31);
  return ids
    .filter((_, i) => apics[i]?.acknowledge() === 0x31)
    .map((apicId) => `0x${apicId.toString(16)}`)
    .join(', ');
}

const rule: RuleName = 'firstAliasWins';
console.log(`${rule}: ${RULES[rule].rule}`);
console.log(`with it: ${reached([])}`);
console.log(`without: ${reached([rule])}`);
