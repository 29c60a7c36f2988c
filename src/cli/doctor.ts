/**
 * `apiary doctor`: prints what src/kvm/doctor.ts finds, and which kernel's rules KVM follows. Exit status 0 when guests can
 * run, 4 when not.
 */
import pc from 'picocolors';
import { examine } from '../kvm/doctor.ts';
import { Status } from '../machine/status.ts';
import { wrapped } from './table.ts';

export async function doctor({ json = false }: { json?: boolean } = {}): Promise<number> {
  const findings = await examine();
  if (json) {
    const ok = findings.every((finding) => finding.ok);
    process.stdout.write(`${JSON.stringify({ ok, facts: findings }, null, 2)}\n`);
    return ok ? Status.shutdown : Status.host;
  }
  for (const { name, ok, detail, remedy } of findings) {
    const mark = ok ? pc.green('ok  ') : pc.red('FAIL');
    process.stdout.write(`${mark} ${name}${detail ? `: ${detail}` : ''}\n`);
    if (!ok && remedy) process.stdout.write(`     ${pc.yellow(remedy)}\n`);
  }
  const failed = findings.filter(({ ok }) => !ok).length;
  process.stdout.write(
    failed === 0 ? 'This machine can run guests.\n' : `This machine cannot run guests: ${failed} problem(s) above.\n`,
  );
  if (failed > 0) return Status.host;
  const { hostKernelRules } = await import('../conform/kernel-rules.ts');
  const { text } = await hostKernelRules();
  process.stdout.write(`${wrapped(`${text}.`, '  ')}\n`);
  return 0;
}
