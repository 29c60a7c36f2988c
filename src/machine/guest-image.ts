/** The guests that come with the package (guest/README.md), for a machine to load; `apiary/guest/NAME.elf` are the files. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PACKAGE_ROOT } from '../package-root.ts';
import { ConfigError } from './errors.ts';
import { suggestion } from './shapes.ts';

const FOLDER = new URL('guest/build/', PACKAGE_ROOT);
const SUFFIX = '.elf';

/**
 * @param name 'hello', 'hotplug', ...
 * @returns the image's path, for `Machine.load`
 * @throws ConfigError for another name: it says which was meant, or which there are
 */
export function guestImage(name: string): string {
  const files = readdirSync(FOLDER).filter((file) => file.endsWith(SUFFIX));
  const names = files.map((file) => file.slice(0, -SUFFIX.length)).sort();
  if (!names.includes(name)) throw new ConfigError(`there is no guest '${name}'${suggestion(name, names)}`);
  return fileURLToPath(new URL(`${name}${SUFFIX}`, FOLDER));
}
