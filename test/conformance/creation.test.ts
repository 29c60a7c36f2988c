/**
 * vCPUs as KVM_CREATE_VCPU leaves them, with MSIs in between: the state at power-up, and when a new APIC enters the map
 * (option `lateMapEntry`; layer 1 never sees this, since each of its APICs gets a state before the first message).
 */
import { describe, expect, it } from 'vitest';
import { ApicSystem, STATE_BYTES } from '../../src/apic/index.ts';
import { makeVcpu, makeVm, probeHost, x2apicFlags } from '../../src/conform/host.ts';
import { changesOf } from '../../src/conform/page.ts';
import { freshSeed, Random } from '../../src/conform/random.ts';
import { makeRigs } from '../../src/conform/rigs.ts';
import { System } from '../../src/kvm/index.ts';
import { say, whyNoKvm } from './campaign.ts';

const MACHINES = 40;
const CPUS = 6;
const why = whyNoKvm();

describe.skipIf(why !== undefined)(`new vCPUs${why === undefined ? '' : ` (skipped: ${why})`}`, () => {
  it('have the kernel’s registers, and are in the map when the kernel’s are', () => {
    const seed = freshSeed();
    say(`creation: seed ${seed}`);
    const random = new Random(seed);
    const system = System.open();
    const host = probeHost();
    for (let n = 0; n < MACHINES; n++) {
      const spec = random.pick(makeRigs(seed + n, { cpus: CPUS }));
      const vm = makeVm(system, x2apicFlags(spec));
      const { x2apicFormat, broadcastQuirkDisabled } = spec;
      const model = new ApicSystem({
        ...host,
        x2apicFormat,
        broadcastQuirkDisabled,
        lateMapEntry: true,
        shared: false,
      });
      const cpus = [];
      for (const apicId of spec.rig) {
        cpus.push(makeVcpu(vm, apicId));
        model.addApic(apicId);
        for (let i = 0; i < 6; i++) {
          const target = random.pick([...spec.rig, 0xff]);
          const low = 0xfee00000 + ((target & 0xff) << 12) + (random.below(4) === 0 ? 4 : 0);
          const data = 0x31 | (random.pick([0, 1, 4]) << 8);
          const high = target & 0xf00;
          const what = `${spec.rig} ${x2apicFormat}: MSI to 0x${target.toString(16)} after 0x${apicId.toString(16)}`;
          expect(model.signalMsi(low, high, data), what).toBe(vm.signalMsi(low, high, data));
        }
      }
      const page = new Uint8Array(STATE_BYTES);
      for (const [i, cpu] of cpus.entries()) {
        expect(changesOf(cpu.getLapic(), model.apic(i).getState(page))).toEqual([]);
        cpu.close();
      }
      vm.close();
    }
    system.close();
  });
});
