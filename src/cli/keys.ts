/**
 * What is typed on a terminal, on its way to the guest: Ctrl-A is an escape, as QEMU's is, so that every key can be sent and
 * the run ended. Ctrl-C ends it too, since that is what a person tries first; Ctrl-A Ctrl-C sends one.
 */
const CTRL_A = 1;
const CTRL_C = 3;

export const KEYS_HELP = [
  'Ctrl-A x  or Ctrl-C: end the run',
  'Ctrl-A Ctrl-C: send Ctrl-C to the guest',
  'Ctrl-A Ctrl-A: send Ctrl-A to the guest',
  'Ctrl-A h: this help',
].join('\r\n');

export interface Typed {
  /** For the guest. */
  readonly bytes: Uint8Array;
  readonly end: boolean;
  readonly help: boolean;
}

export class Keys {
  /** Ctrl-A came last. */
  #escaped = false;

  /** @param chunk as it came from the terminal: any number of keys */
  take(chunk: Uint8Array): Typed {
    const bytes: number[] = [];
    let help = false;
    for (const byte of chunk) {
      if (this.#escaped) {
        this.#escaped = false;
        const key = String.fromCharCode(byte).toLowerCase();
        if (key === 'x') return { bytes: Uint8Array.from(bytes), end: true, help };
        if (key === 'h' || key === '?') help = true;
        else if (byte === CTRL_A || byte === CTRL_C) bytes.push(byte);
        else bytes.push(CTRL_A, byte); // no command: as typed
      } else if (byte === CTRL_A) {
        this.#escaped = true;
      } else if (byte === CTRL_C) {
        return { bytes: Uint8Array.from(bytes), end: true, help };
      } else {
        bytes.push(byte);
      }
    }
    return { bytes: Uint8Array.from(bytes), end: false, help };
  }
}
