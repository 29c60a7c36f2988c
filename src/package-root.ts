/** Where this package is, whichever file of it this code ended up in: a module of dist/, a bundle, or src/ under a test. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

/** Resolves what is in the package: `new URL('guest/build/hello.elf', PACKAGE_ROOT)`. */
export const PACKAGE_ROOT = pathToFileURL(createRequire(import.meta.url).resolve('apiary/package.json'));
