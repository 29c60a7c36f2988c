/** Where this package is, whichever file of it this code ended up in: a module of dist/, a bundle, or src/ under a test. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

/** Where it is for a bundle of its own, in dist/bundle. Node's search for it takes 5 ms, which each thread's start would wait. */
const ABOVE_BUNDLE = new URL('../../package.json', import.meta.url);

/** Resolves what is in the package: `new URL('guest/build/hello.elf', PACKAGE_ROOT)`. */
export const PACKAGE_ROOT = isOurs(ABOVE_BUNDLE)
  ? ABOVE_BUNDLE
  : pathToFileURL(createRequire(import.meta.url).resolve('apiary/package.json'));

function isOurs(url: URL): boolean {
  try {
    return (JSON.parse(readFileSync(url, 'utf8')) as { name?: unknown }).name === 'apiary';
  } catch {
    return false;
  }
}
