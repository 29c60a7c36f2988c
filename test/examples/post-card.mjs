/**
 * A device of one's own: a POST card at port 0x80, which shows the last code that was written to it.
 * @import { Board, Device } from 'apiary'
 */

/** @implements {Device} */
class PostCard {
  name = 'post-card';
  ranges = [{ space: /** @type {const} */ ('pio'), base: 0x80, length: 1 }];
  #code = 0;
  #board;

  /** @param {Board} board */
  constructor(board) {
    this.#board = board;
  }

  read() {
    return this.#code;
  }

  /** As `Device.write`: of a port that is one byte wide. */
  write(_rangeIndex, _offset, _size, code) {
    this.#code = code;
    for (const byte of Buffer.from(`POST ${code.toString(16)}\n`)) this.#board.report({ type: 'transmit', byte });
  }

  reset() {
    this.#code = 0;
  }

  save() {
    return { code: this.#code };
  }

  restore({ code }) {
    this.#code = code;
  }
}

/** @param {Board} board */
export const devices = (board) => [new PostCard(board)];
