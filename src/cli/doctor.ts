/**
 * `apiary doctor`: prints what src/kvm/doctor.ts finds, what a KVM that interprets ring 0 lacks there, and which kernel's
 * rules KVM follows. Exit status 0 when guests can run, 4 when not; a gap concerns only the guests that need it.
 */
import pc from 'picocolors';
import { examine } from '../kvm/doctor.ts';
import type { Gap } from '../machine/ring0-gaps.ts';
import { Status } from '../machine/status.ts';
import { printJson } from './json.ts';
import { wrapped } from './table.ts';

export async function doctor({ json = false }: { json?: boolean } = {}): Promise<number> {
  const findings = await examine();
  if (json) {
    const ok = findings.every((finding) => finding.ok);
    const status = ok ? Status.shutdown : Status.host;
    return printJson({ ok, facts: findings, gaps: ok ? await gaps() : null, status });
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
  for (const { line } of await gaps()) process.stdout.write(`${pc.yellow(wrapped(`${line}.`, '  '))}\n`);
  const { hostKernelRules } = await import('../conform/kernel-rules.ts');
  const { text } = await hostKernelRules();
  process.stdout.write(`${wrapped(`${text}.`, '  ')}\n`);
  return 0;
}

/** Loads the addon: for a host on which `examine` found nothing amiss. */
async function gaps(): Promise<Gap[]> {
  const [{ ring0Gaps }, { System }, { nativeHost }] = await Promise.all([
    import('../machine/ring0-gaps.ts'),
    import('../kvm/system.ts'),
    import('../machine/shared/native-host.ts'),
  ]);
  const system = System.open();
  try {
    return ring0Gaps(system, nativeHost);
  } finally {
    system.close();
  }
}
