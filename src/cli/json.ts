/** What `--json` prints, whichever the command: one object, whose `status` is the command's exit status. */

/** @returns the status, for the command to end with */
export function printJson<Result extends { readonly status: number }>(result: Result): number {
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  return result.status;
}
