/** `apiary`: virtual machines on Linux KVM whose local APICs are TypeScript. See README.md. */
export { ImageError } from './boot/index.ts';
export { describeMachine } from './inspect/report.ts';
export type { MachineSnapshot, VcpuSnapshot } from './inspect/snapshot.ts';
export type { Cause, Verdict } from './inspect/why.ts';
export { AddonError, KvmError } from './kvm/index.ts';
export type { BootOptions } from './machine/boot-image.ts';
export { ConfigError } from './machine/errors.ts';
export { guestImage } from './machine/guest-image.ts';
export { Machine, type RunResult } from './machine/machine.ts';
export type { MachineConfig, MachineOptions } from './machine/options.ts';
export type { TraceEvent } from './machine/trace.ts';
