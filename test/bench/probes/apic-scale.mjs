// apic-scale.mjs CPUS: what so many local APICs cost without a guest, milliseconds: {"create", "enable", "broadcast", "startAll",
// "rebuild", "change"} and "bytes" of shared memory. All in x2APIC mode; each figure the best of many.
import { ApicSystem } from 'apiary/apic';

const X2APIC_BASE = 0xfee00c00;
const MSR_SPIV = 0x80f;
const MSR_ICR = 0x830;
const FIXED_TO_OTHERS = 0xc_4051;
const INIT_TO_OTHERS = 0xc_4500;
const SIPI_TO_OTHERS = 0xc_4601;
const SYSTEMS = 3;
/** Enough for V8 to have compiled what is measured, also for few CPUs. */
const REPEATS = 400;

const count = Number(process.argv[2]);
const best = {};

/** Milliseconds of the quickest of `repeats` calls. */
function time(name, repeats, body) {
  for (let i = 0; i < repeats; i++) {
    const begun = process.hrtime.bigint();
    body(i);
    const millis = Number(process.hrtime.bigint() - begun) / 1e6;
    best[name] = Math.min(best[name] ?? Number.POSITIVE_INFINITY, millis);
  }
}

for (let round = 0; round < SYSTEMS; round++) {
  let wakes = 0;
  const host = { nowNanos: () => 0, wake: () => wakes++ };
  let system;
  time('create', 1, () => {
    system = new ApicSystem({ x2apicFormat: true, maxApics: count, maxApicId: count - 1 }, host);
    for (let id = 0; id < count; id++) system.addApic(id, { bootstrap: id === 0 });
  });
  const apics = Array.from({ length: count }, (_, index) => system.apic(index));
  time('enable', 1, () => {
    for (const apic of apics) {
      apic.setApicBaseFromHost(X2APIC_BASE, 0);
      apic.writeMsr(MSR_SPIV, 0x1ff, 0);
    }
  });
  time('broadcast', REPEATS, () => apics[0].writeMsr(MSR_ICR, FIXED_TO_OTHERS, 0));
  if (apics[count - 1].highestRequested() !== 0x51) throw new Error('the broadcast did not arrive');
  wakes = 0;
  time('startAll', REPEATS, () => {
    apics[0].writeMsr(MSR_ICR, INIT_TO_OTHERS, 0);
    apics[0].writeMsr(MSR_ICR, SIPI_TO_OTHERS, 0);
  });
  if (wakes < REPEATS * (count - 1)) throw new Error('INIT and SIPI did not wake every CPU');
  time('rebuild', REPEATS, () => system.rebuildMap());
  time('change', REPEATS, (i) => apics[1].writeMsr(MSR_SPIV, i % 2 === 0 ? 0xff : 0x1ff, 0));
  best.bytes = system.memory.byteLength;
}
process.stdout.write(JSON.stringify(best));
