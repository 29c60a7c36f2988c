/**
 * Counting the ticks of a crystal from the machine's clock, without ticking: exact integer arithmetic in doubles, so that
 * a tick happens at the same nanosecond whichever way one asks. Good for frequencies up to 9 MHz and clocks up to 2^53 ns.
 */

const NANOS_PER_SECOND = 1_000_000_000;

export class TickRate {
  readonly hz: number;

  /** @param hz whole ticks a second, at most 9,000,000 */
  constructor(hz: number) {
    this.hz = hz;
  }

  /** How many ticks have passed at `nanos` (0 or more). */
  ticksAt(nanos: number): number {
    const seconds = Math.floor(nanos / NANOS_PER_SECOND);
    // The product stays under 2^53, so the quotient is exact before it is cut.
    return (
      seconds * this.hz + Math.floor((Math.floor(nanos - seconds * NANOS_PER_SECOND) * this.hz) / NANOS_PER_SECOND)
    );
  }

  /** The first nanosecond at which `ticksAt` answers `tick` or more. */
  nanosAt(tick: number): number {
    const seconds = Math.floor(tick / this.hz);
    return seconds * NANOS_PER_SECOND + Math.ceil(((tick - seconds * this.hz) * NANOS_PER_SECOND) / this.hz);
  }
}
