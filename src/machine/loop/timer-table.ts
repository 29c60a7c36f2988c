/**
 * The local APIC timers of a worker's vCPUs: one deadline each, the earliest at hand. A flat array on purpose: a scan of
 * 512 deadlines takes half a microsecond, less than one exit, and a guest cannot make it grow.
 */
export class TimerTable {
  /** Nanoseconds; Infinity when no timer is armed. */
  next = Number.POSITIVE_INFINITY;
  #due = 0;
  readonly #deadlines: Float64Array;

  /** @param maxVcpus timers are for vCPU indexes below this */
  constructor(maxVcpus: number) {
    this.#deadlines = new Float64Array(maxVcpus).fill(Number.POSITIVE_INFINITY);
  }

  /** @param deadline nanoseconds of the host's monotonic clock, or Infinity to disarm */
  set(vcpuIndex: number, deadline: number): void {
    const old = this.#deadlines[vcpuIndex];
    if (old === deadline) return;
    this.#deadlines[vcpuIndex] = deadline;
    if (deadline < this.next) {
      this.next = deadline;
      this.#due = vcpuIndex;
    } else if (vcpuIndex === this.#due) {
      this.#findNext();
    }
  }

  /** Disarms and names the vCPU whose deadline `next` is. */
  takeDue(): number {
    const due = this.#due;
    this.#deadlines[due] = Number.POSITIVE_INFINITY;
    this.#findNext();
    return due;
  }

  #findNext(): void {
    this.next = Number.POSITIVE_INFINITY;
    for (let index = 0; index < this.#deadlines.length; index++) {
      if (this.#deadlines[index] < this.next) {
        this.next = this.#deadlines[index];
        this.#due = index;
      }
    }
  }
}
