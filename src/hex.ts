/** @returns the number as people of this field write it: 0x and lower-case digits, at least `digits` of them. */
export function hex(value: number | bigint, digits = 0): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
