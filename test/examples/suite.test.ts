/** A vitest suite of a guest, as a project that builds one may have it. Skipped without /dev/kvm. */
import { guestImage, Machine } from 'apiary';
import { expect, test } from 'vitest';
import { describeKvm } from '../kvm/support.ts';

describeKvm('the guest hello', () => {
  test('says so, and ends with its own status', async ({ onTestFailed }) => {
    await using machine = await Machine.create({ timeoutMs: 30_000 });
    onTestFailed(() => void process.stderr.write(machine.output.text));
    await machine.load(guestImage('hello'));
    const running = machine.run();
    await machine.waitFor(/hello/i);
    expect(await running).toMatchObject({ reason: 'debug-exit', status: 1 });
  });
});
