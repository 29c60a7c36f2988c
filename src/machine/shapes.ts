/**
 * Options as a JavaScript program gives them: every name is one that there is, every value of the kind that is wanted, before
 * anybody looks at its range. TypeScript says the same earlier; here it is one line for those who do without.
 */
import { closest, distance } from 'fastest-levenshtein';
import { ConfigError } from './errors.ts';

/** What a value must be, in words, and whether it is. */
export type Shape = readonly [words: string, fits: (value: unknown) => boolean];
/** A shape for each of the options of `T`: none can be forgotten. */
export type Shapes<T> = { readonly [Name in keyof Required<T>]: Shape };

const isNumber = (value: unknown): boolean => typeof value === 'number';
const isString = (value: unknown): boolean => typeof value === 'string';
const isListOf = (value: unknown, fits: (each: unknown) => boolean): boolean =>
  Array.isArray(value) && value.every(fits);
const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const FLAG: Shape = ['true or false', (value) => typeof value === 'boolean'];
export const FLAG_OR_PROCESS: Shape = [
  "true, false or 'process'",
  (value) => typeof value === 'boolean' || value === 'process',
];
export const NUMBER: Shape = ['a number', isNumber];
export const TEXT: Shape = ['a string', isString];
export const TEXTS: Shape = ['a list of strings', (value) => isListOf(value, isString)];
export const NUMBERS: Shape = ['a list of APIC IDs', (value) => isListOf(value, isNumber)];
export const OBJECT: Shape = ['an object', isPlain];
export const NUMBER_OR_TEXT: Shape = [
  "a number of bytes or a string such as '64M'",
  (value) => isNumber(value) || isString(value),
];
export const NUMBER_OR_NUMBERS: Shape = [
  'a number of CPUs or a list of APIC IDs',
  (value) => isNumber(value) || isListOf(value, isNumber),
];
export const FUNCTION: Shape = ['a function', (value) => typeof value === 'function'];
export const SIGNAL: Shape = ['an AbortSignal', (value) => value instanceof AbortSignal];
export const URLS: Shape = [
  "a list of URLs, for example [new URL('./post-card.mjs', import.meta.url)]",
  (value) => isListOf(value, (each) => each instanceof URL || (typeof each === 'string' && URL.canParse(each))),
];

/** ': did you mean memory?' where one of `names` is close to it, else '; choose ' and all of them. */
export function suggestion(name: string, names: readonly string[]): string {
  const best = closest(name, names);
  const isClose = distance(name.toLowerCase(), best.toLowerCase()) <= Math.max(1, Math.floor(name.length / 3));
  return isClose ? `: did you mean ${best}?` : `; choose ${names.join(', ')}`;
}

function say(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (Array.isArray(value)) return `[${value.map(say).join(', ')}]`;
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

/**
 * @param what how messages call one of them: 'option', 'load option'
 * @throws ConfigError for a name that there is not, and for a value of another kind; undefined is as good as not given
 */
export function checkShapes<T extends object>(what: string, given: T, shapes: Shapes<T>): void {
  if (!isPlain(given)) throw new ConfigError(`the ${what}s must be an object, not ${say(given)}`);
  const names = Object.keys(shapes);
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(shapes, name)) throw new ConfigError(`there is no ${what} '${name}'${suggestion(name, names)}`);
    const [words, fits] = shapes[name as keyof T];
    if (value !== undefined && !fits(value)) throw new ConfigError(`${name} must be ${words}, not ${say(value)}`);
  }
}
