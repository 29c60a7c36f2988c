/**
 * `apiary`: virtual machines on Linux KVM whose local APICs are TypeScript. `Machine` is where to start; `apiary/apic` has the
 * APICs alone, `apiary/kvm` what the machines stand on. Errors: ConfigError and ImageError are the caller's, KvmError, HostError
 * and AddonError the host's; everything else is a bug.
 */
export type {
  ApicMapSnapshot,
  ApicSystemOptions,
  ApicTraceEvent,
  Behaviour,
  LocalApicSnapshot,
  RouteEvent,
  RuleName,
} from './apic/index.ts';
export { ImageError } from './boot/index.ts';
export type { AddressRange, Board, Device, DeviceEvent, DeviceModule, Line, ResetKind } from './devices/device.ts';
export { describeMachine } from './inspect/report.ts';
export type {
  IoApicPin,
  MachineSnapshot,
  PicView,
  SentMessage,
  VcpuSnapshot,
  VcpuState,
} from './inspect/snapshot.ts';
export type { Cause, Verdict } from './inspect/why.ts';
export { AddonError, KvmError } from './kvm/index.ts';
export type { BootOptions } from './machine/boot-image.ts';
export { ConfigError, HostError } from './machine/errors.ts';
export { guestImage } from './machine/guest-image.ts';
export { Machine } from './machine/machine.ts';
export type { MachineEvents, RunResult } from './machine/machine-events.ts';
export { DEBUG_CONSOLES, type DebugConsole, type MachineConfig, type MachineOptions } from './machine/options.ts';
export { SerialOutput, type WaitOptions } from './machine/output.ts';
export type { EndReason } from './machine/shared/messages.ts';
export { Status } from './machine/status.ts';
export type { HotplugTraceEvent, LoopTraceEvent, TraceEvent } from './machine/trace.ts';
