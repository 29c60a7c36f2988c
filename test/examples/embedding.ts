/** Another project's command that boots guests: its own options, its own words for errors, Ctrl-C as a signal. Needs /dev/kvm. */
import { AddonError, ConfigError, guestImage, HostError, ImageError, KvmError, Machine } from 'apiary';
import { Command } from 'commander';

const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort());

async function boot(name: string, { cpus }: { cpus: string }): Promise<void> {
  await using machine = await Machine.create({ cpus: Number(cpus), signal: interrupted.signal });
  machine.on('serial', (chunk) => process.stdout.write(chunk));
  await machine.load(guestImage(name));
  const { reason, status } = await machine.run();
  console.log(`boot: ${reason}`);
  process.exitCode = status === 1 ? 0 : 1;
}

const program = new Command('boot').argument('<guest>').option('--cpus <n>', 'how many', '1').action(boot);
try {
  await program.parseAsync();
} catch (error) {
  const isTheirs = error instanceof ConfigError || error instanceof ImageError;
  const isHosts = error instanceof KvmError || error instanceof HostError || error instanceof AddonError;
  if (!isTheirs && !isHosts) throw error;
  console.error(`boot: ${error.message}`);
  process.exitCode = isTheirs ? 2 : 3;
}
