/**
 * Between a program and what started it (code-cache.ts), which is another bundle of the same thread: where no code of the
 * program is kept yet, the program says when it has been through what is worth keeping.
 */
const OFFER = Symbol.for('apiary.keep-code');
const shared = globalThis as { [OFFER]?: (() => void) | undefined };

/** @param keep keeps the code that is compiled at the time of the call */
export function offerToKeepCode(keep: () => void): void {
  shared[OFFER] = keep;
}

/** Takes the offer, if there is one: once. */
export function keepCode(): void {
  const keep = shared[OFFER];
  shared[OFFER] = undefined;
  keep?.();
}
