// A script in KVM's place (src/machine/scripted-machine.ts): each CPU switches its local APIC to x2APIC mode and on, then halts;
// the boot CPU starts all others by INIT and SIPI to all but self.
const EXIT = { hlt: 5, wrmsr: 30 };
const wrmsr = (msrIndex, msrDataLow) => ({ exitReason: EXIT.wrmsr, msrIndex, msrDataLow, msrDataHigh: 0 });

export function* guest({ bootstrap }) {
  yield wrmsr(0x1b, 0xfee0_0c00 | (bootstrap ? 0x100 : 0));
  yield wrmsr(0x80f, 0x1ff);
  if (bootstrap) {
    yield wrmsr(0x830, 0xc_4500);
    yield wrmsr(0x830, 0xc_4601);
  }
  for (;;) yield { exitReason: EXIT.hlt, ifFlag: true };
}
