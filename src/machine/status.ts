/**
 * What the command's exit status means; a RunResult has the same. A guest's own, (v << 1) | 1 for value v at port 0xf4, is odd
 * and has all of 1 to 255; so what the machine, the monitor and the host have to say is even.
 */
export const Status = {
  /** The guest powered off, or reset where that ends the run. */
  shutdown: 0,
  /** Wrong options, images or IDs. */
  usage: 2,
  /** The host cannot do it: no /dev/kvm, no permission, out of descriptors, output that cannot be written. */
  host: 4,
  /** A vCPU failed: triple fault, or KVM cannot go on. */
  vcpuFailed: 10,
  /** Every CPU is halted with interrupts off, and nothing can wake one. */
  halted: 14,
  /** Whoever read the output has gone. */
  outputGone: 12,
  /** A bug in apiary. EX_SOFTWARE of sysexits.h. */
  bug: 70,
  /** --timeout. As timeout(1). */
  timeout: 124,
  /** Ended from outside: Ctrl-C, SIGINT, SIGTERM, SIGHUP. */
  interrupted: 130,
} as const;
