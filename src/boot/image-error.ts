/**
 * The one error of the image loaders: the caller gave a file that cannot be started. Its message is one line that says which
 * file, what is wrong with it, where, and (when there is something to do) what to do.
 */
export class ImageError extends Error {
  override readonly name = 'ImageError';

  /** @param file path or name of the image as the user gave it */
  constructor(file: string, problem: string) {
    super(`${file}: ${problem}`.replaceAll(/[\r\n]+/g, ' '));
  }
}

/** `0x…` for messages; addresses are easier to compare with a linker map that way. */
export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
