/** Guests for machines without KVM (src/machine/scripted-machine.ts), by the name after `?`. */
const IO = 2;
const COM1 = 0x3f8;
const DEBUG_EXIT = 0xf4;
const FIRMWARE = 0x5f0;
const PM1 = { status: 0x600, control: 0x604 };
const POWER_BUTTON = 0x100;
const SLEEP_NOW = 0x2000;

const out = (ioPort, value, ioSize = 1) => ({ exitReason: IO, ioIsOut: true, ioPort, ioSize, ioData: [value] });
const input = (ioPort, ioSize = 1) => ({ exitReason: IO, ioIsOut: false, ioPort, ioSize, ioData: [0] });

const guests = {
  /** What the firmware's handlers do for INT 0x13 and INT 0x16, then a byte to each console. */
  *bios() {
    for (const [vector, ax] of [
      [0x13, 0x0201],
      [0x16, 0x0000],
    ]) {
      yield out(FIRMWARE + 2, ax, 2);
      yield out(FIRMWARE + 4, vector, 2);
    }
    yield out(COM1, 's'.charCodeAt(0));
    yield out(0xe9, 'd'.charCodeAt(0));
    yield out(DEBUG_EXIT, 0);
  },
  /** Powers off once the power button is pressed. */
  *button() {
    for (;;) {
      const status = input(PM1.status, 2);
      yield status;
      if (status.ioData[0] & POWER_BUTTON) break;
    }
    yield out(PM1.control, SLEEP_NOW, 2);
  },
};

export const guest = () => guests[new URL(import.meta.url).search.slice(1)]();
