/** The guests that come with the package (guest/README.md), for a machine to load; `apiary/guest/NAME.elf` are the files. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PACKAGE_ROOT } from '../package-root.ts';
import { ConfigError } from './errors.ts';

const FOLDER = new URL('guest/build/', PACKAGE_ROOT);
const SUFFIX = '.elf';

/**
 * @param name 'hello', 'hotplug', ...
 * @returns the image's path, for `Machine.load`
 * @throws ConfigError that names them all, for another name
 */
export function guestImage(name: string): string {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith(SUFFIX));
  const names = files.map((file) => file.slice(0, -SUFFIX.length)).sort();
  if (!names.includes(name)) throw new ConfigError(`guest '${name}' is not known; choose ${names.join(', ')}`);
  return fileURLToPath(new URL(`${name}${SUFFIX}`, FOLDER));
}
