/** The judges of the headline cases that need KVM: the kernel's APICs, and our monitor. */
import type { ApicSystemOptions } from '../apic/index.ts';
import { type HeadlineJudge, TwoJudges } from './headline.ts';
import { KernelJudge } from './kernel-judge.ts';
import { ModelJudge } from './model-judge.ts';
import { KernelRig } from './registers/kernel-rig.ts';
import { UserRig } from './registers/user-rig.ts';

/** @throws KvmError when the host has no KVM that can be used */
export const kernelHeadline = (): HeadlineJudge =>
  new TwoJudges('kernel', new KernelJudge(), (machine) => KernelRig.create(machine));

/** Our monitor, under a guest that sends the IPIs. @throws KvmError */
export const monitorHeadline = (model: ApicSystemOptions): HeadlineJudge =>
  new TwoJudges('monitor', new ModelJudge(model), (machine) => UserRig.create(machine, model));
