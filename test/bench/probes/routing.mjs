// routing.mjs COUNT: what one IPI's route and one rebuild of the map cost with COUNT APICs, in the APIC core alone
// (apiary/apic, no KVM, no thread). A program of its own for each COUNT, so that one run does not shape V8's code for the next.
//
// The route is from ICR write to IRR bit and wake-up: an x2APIC fixed IPI to one APIC by physical ID, targets in turn. The
// scan is the same with a map that can never be allocated. Prints {"map", "scan", "rebuild"} in nanoseconds, the best of
// several batches: the shared machine can only add to them.
import { ApicSystem } from 'apiary/apic';

const X2APIC_BASE = 0xfee00c00;
const MSR_SPIV = 0x80f;
const MSR_ICR = 0x830;
const BATCHES = 150; // short ones, a millisecond or two: some of them run undisturbed

const count = Number(process.argv[2]);

function makeSystem(failMapAllocation) {
  const system = new ApicSystem({ x2apicFormat: true, maxApics: count, failMapAllocation });
  for (let id = 0; id < count; id++) {
    const apic = system.addApic(id);
    apic.setApicBaseFromHost(X2APIC_BASE, 0);
    apic.writeMsr(MSR_SPIV, 0x1ff, 0);
  }
  return system;
}

/** Nanoseconds for each of `operations` calls of `body(i)`. */
function time(operations, body) {
  let best = Number.POSITIVE_INFINITY;
  for (let batch = 0; batch < BATCHES; batch++) {
    const start = process.hrtime.bigint();
    for (let i = 0; i < operations; i++) body(i);
    best = Math.min(best, Number(process.hrtime.bigint() - start) / operations);
  }
  return best;
}

function route(system, operations) {
  const sender = system.apic(0);
  let target = 0;
  const nanos = time(operations, () => {
    target = target + 1 < count ? target + 1 : 0;
    sender.writeMsr(MSR_ICR, 0x4051, target);
  });
  if (system.apic(1).highestRequested() !== 0x51) throw new Error('the IPIs did not arrive');
  return nanos;
}

const withMap = makeSystem(false);
const withoutMap = makeSystem(true);
const map = route(withMap, 10_000);
const scan = route(withoutMap, Math.max(50, Math.round(10_000 / count)));
const rebuild = time(Math.max(20, Math.round(10_000 / count)), () => withMap.rebuildMap());
process.stdout.write(JSON.stringify({ map, scan, rebuild }));
