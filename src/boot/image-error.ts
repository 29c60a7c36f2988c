/**
 * The one error of the image loaders: the caller gave a file that cannot be started. Its message is one line that says which
 * file, what is wrong with it, where, and (when there is something to do) what to do.
 */
import { printable } from '../printable.ts';

/**
 * An image that cannot be started: the caller's fault. One line that says which file, what is wrong with it, where,
 * and (when there is something to do) what to do.
 */
export class ImageError extends Error {
  override readonly name = 'ImageError';

  /** @param file path or name of the image as the user gave it */
  constructor(file: string, problem: string) {
    super(printable(`${file}: ${problem}`));
  }
}
