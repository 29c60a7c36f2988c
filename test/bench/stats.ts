/** The few statistics that a noisy, shared machine leaves honest: medians, of times and of ratios taken side by side. */

/** @returns the middle of `values` (the upper one of two); NaN for none */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

export function minimum(values: readonly number[]): number {
  return values.length === 0 ? Number.NaN : Math.min(...values);
}

/** Ratio of what was measured in the same round; rounds that lack one of the two are left out. */
export function ratios(values: readonly number[], floors: readonly number[]): number[] {
  return values.flatMap((value, round) => {
    const floor = floors[round] ?? Number.NaN;
    return Number.isFinite(value / floor) ? [value / floor] : [];
  });
}
