/** `apiary/kvm`: KVM for TypeScript. Errors are KvmError; names are the kernel's. See each file's header. */
export {
  API_VERSION,
  BusLockDetection,
  Cap,
  CpuidFlag,
  capName,
  DisableExits,
  ExitReason,
  exitName,
  GuestDebug,
  InternalError,
  InterruptShadow,
  type IoctlName,
  IoDirection,
  MemoryFlag,
  MpState,
  MsrExitReason,
  NotifyFlag,
  Quirk,
  RunFlag,
  SyncRegs,
  SystemEvent,
  VcpuEventValid,
  X2apicFlag,
} from './constants.ts';
export { examine, type Fact, kvmParameter, type VendorModule, vendorModule } from './doctor.ts';
export { AddonError, errnoName, KvmError } from './errors.ts';
export type { CpuidEntry, Debugregs, Fpu, Regs, Segment, Sregs, VcpuEvents, Xcr } from './layouts.ts';
export { bytesToPage, discardPages } from './libc.ts';
export { native, type RunMapping } from './native.ts';
export { KvmRun } from './run.ts';
export { sandbox } from './seccomp.ts';
export { System } from './system.ts';
export { type Msr, Vcpu } from './vcpu.ts';
export { type MsiRoute, type MsrFilterRange, Vm } from './vm.ts';
