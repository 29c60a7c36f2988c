/**
 * The text page of a VGA, as it stands in RAM: 25 rows of 80 cells, each a character of code page 437 and then its attribute
 * (IBM VGA reference, "Alphanumeric Modes"). The picture begins at the CRT controller's start address, in cells from 0xb8000,
 * and goes on at 0xb8000 behind the last of the 32 KiB that text modes have.
 */

const PAGE = 0xb_8000;
const COLUMNS = 80;
const ROWS = 25;
const CELL_BYTES = 2;
/** The last cell of 32 KiB. */
const CELL_MASK = 0x3fff;

/** Code page 437; nothing of it can steer a terminal. 0x00, 0x20 and 0xff are blank. */
const CHARACTERS = [
  ' ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼',
  ' !"#$%&\'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~⌂',
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌',
  '█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ',
].join('');

/**
 * @param startCell the CRT controller's start address, 0-0xffff
 * @returns the rows without blanks at their ends and without blank rows below; '' when nothing was written
 */
export function textScreen(ram: Uint8Array, startCell = 0): string {
  const rows: string[] = [];
  for (let row = 0; row < ROWS; row++) {
    let text = '';
    for (let column = 0; column < COLUMNS; column++) {
      const cell = (startCell + row * COLUMNS + column) & CELL_MASK;
      text += CHARACTERS[ram[PAGE + cell * CELL_BYTES] ?? 0];
    }
    rows.push(text.trimEnd());
  }
  return rows.join('\n').trimEnd();
}
