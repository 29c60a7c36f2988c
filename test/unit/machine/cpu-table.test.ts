/** What a person is told when no CPU has room any more. */
import { expect, test } from 'vitest';
import { CpuTable } from '../../../src/machine/cpu-table.ts';
import { checkOptions } from '../../../src/machine/options.ts';
import { ScriptedVm } from '../../../src/machine/scripted-machine.ts';
import { nativeHost } from '../../../src/machine/shared/native-host.ts';
import { SharedState } from '../../../src/machine/shared/shared.ts';
import { WorkerPool } from '../../../src/machine/worker-pool.ts';

class SmallHost extends ScriptedVm {
  override readonly limits: ScriptedVm['limits'];

  constructor(maxVcpus: number) {
    super();
    this.limits = { maxVcpus, maxVcpuId: 1024 };
  }
}

/** Into a machine that has all the vCPUs that it can have: none. */
async function hotplugIntoFull(hostMaxVcpus: number): Promise<void> {
  const vm = new SmallHost(hostMaxVcpus);
  const config = checkOptions({}, { maxVcpus: 1, maxVcpuId: 1024, cores: 1 });
  const pool = new WorkerPool(0);
  const shared = new SharedState(0, nativeHost);
  await new CpuTable(vm, null, shared, pool, config).hotplug(7);
}

test('a machine that is full, on a host that has room: what to name', async () => {
  await expect(hotplugIntoFull(8)).rejects.toThrow(/^no room for APIC ID 0x7: this machine has 0 .* in hotpluggable$/);
});

test('a machine that is as large as the host lets it be: the limit is KVM’s', async () => {
  await expect(hotplugIntoFull(0)).rejects.toThrow(
    /^no room for APIC ID 0x7: this host's KVM runs up to 0 vCPUs in one VM$/,
  );
});
