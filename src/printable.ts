/** Text from outside (paths, names, what a file says) as it may be shown on a terminal: one line, nothing that acts on it. */

const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Escapes what is no printable character: `\n`, `\x1b`, `\u{202e}`. */
export function printable(text: string): string {
  // Controls (C0, C1, DEL), format characters such as a change of direction, line and paragraph separators. Made here, not at
  // the start: Unicode's properties take 2 ms to load.
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    const digits = code.toString(16);
    return SHORT[character] ?? (code < 0x100 ? `\\x${digits.padStart(2, '0')}` : `\\u{${digits}}`);
  });
}
