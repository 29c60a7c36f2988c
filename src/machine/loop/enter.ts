/**
 * Into the guest and back: KVM_RUN on this thread, what must be read back at each return, and what its result means. Whoever
 * runs vCPUs prepares them first (`Readiness.prepare`) and handles the exit afterwards (exits.ts).
 */
import type { Cpu } from './cpu.ts';

const EINTR = 4;
const EAGAIN = 11;

/** Why the guest was left. Below 0: KVM_RUN failed with this -errno. */
export const Left = {
  /** `cpu.run` has an exit to handle. */
  exit: 0,
  /** A kick or the timer (EINTR); or a vCPU in KVM's wait-for-SIPI was woken without one (EAGAIN). */
  interrupted: 1,
} as const;

/** @returns one of `Left`, or -errno. */
export function enterGuest({ run, interrupts }: Cpu): number {
  const result = run.run();
  interrupts.afterRun();
  return result === -EINTR || result === -EAGAIN ? Left.interrupted : result;
}
