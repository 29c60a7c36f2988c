/**
 * The text page of a VGA, as it stands in RAM at 0xb8000: 25 rows of 80 cells, each a character of code page 437 and then
 * its attribute. Only the first page is looked at, wherever the CRT controller's start address points.
 */

const PAGE = 0xb_8000;
const COLUMNS = 80;
const ROWS = 25;
const CELL_BYTES = 2;

/** Code page 437; nothing of it can steer a terminal. 0x00, 0x20 and 0xff are blank. */
const CHARACTERS = [
  ' ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼',
  ' !"#$%&\'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~⌂',
  'ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌',
  '█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ',
].join('');

/** @returns the page's rows without blanks at their ends and without blank rows below; '' when nothing was written */
export function textScreen(ram: Uint8Array): string {
  const rows: string[] = [];
  for (let row = 0; row < ROWS; row++) {
    let text = '';
    for (let column = 0; column < COLUMNS; column++) {
      text += CHARACTERS[ram[PAGE + (row * COLUMNS + column) * CELL_BYTES] ?? 0];
    }
    rows.push(text.trimEnd());
  }
  return rows.join('\n').trimEnd();
}
