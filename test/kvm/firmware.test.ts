/** What is left of a BIOS, as real-mode guests meet it: the data area, the interrupt vectors, the resume after a reset. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MachineOptions } from 'apiary';
import { expect, test } from 'vitest';
import { assemble, command, describeKvm, EXIT_OK, GUEST_OK, guestImage, runGuest } from './support.ts';

const KINDS: readonly MachineOptions[] = [{ apic: 'user' }, { apic: 'kernel' }];
const FAILED = 'mov $1, %al\n out %al, $0xf4\n';
const WAIT = '9: hlt\n jmp 9b\n';

describeKvm('the firmware', () => {
  test.each(KINDS)('%o: the BIOS data area has the extended area at 0x9fc00 and 639 KiB', async (options) => {
    const source = `
      cmpw $0x9fc0, 0x40e
      jne 1f
      cmpw $639, 0x413
      jne 1f
      ${EXIT_OK}
    1: ${FAILED}`;
    const { result } = await runGuest(assemble(source), options);
    expect(result).toMatchObject({ reason: 'debug-exit', status: GUEST_OK });
  });

  test.each(KINDS)(
    '%o: INT 0x10 AH=0x0e prints; other calls return with CF set and are told of once',
    async (options) => {
      const source = `
      mov $0x9000, %sp
      mov $0x0e4f, %ax
      clc
      int $0x10
      jc 1f
      mov $0x0e4b, %ax
      int $0x10
      mov $0x0201, %ax
      mov $0x1234, %dx
      clc
      int $0x13
      jnc 1f
      cmp $0x0201, %ax
      jne 1f
      cmp $0x1234, %dx
      jne 1f
      clc
      int $0x16
      jnc 1f
      ${EXIT_OK}
    1: ${FAILED}`;
      const calls: [number, number][] = [];
      const { result, text } = await runGuest(assemble(source), options, (machine) => {
        machine.on('biosCall', (...call) => calls.push(call));
      });
      expect({ ...result, text, calls }).toMatchObject({
        reason: 'debug-exit',
        status: GUEST_OK,
        text: 'OK',
        calls: [[0x13, 0x0201]],
      });
    },
  );

  // CMOS byte 0x0f stayed 0x0a: the second reset resumed again, where it has to start the image.
  test.each(KINDS)('%o: a reset resumes at 0040:0067 once; the next one starts the image', async (options) => {
    const source = `
      cmpw $0x1234, 0x3000
      je 2f
      movw $0x1234, 0x3000
      movb $0, 0x3002
      mov $0x0f, %al
      out %al, $0x70
      mov $0x0a, %al
      out %al, $0x71
      movw $resume, 0x467
      movw $0, 0x469
    1: mov $0xfe, %al
      out %al, $0x64
      ${WAIT}
    resume:
      incb 0x3002
      cmpb $2, 0x3002
      jne 1b
      ${FAILED}
    2: cmpb $1, 0x3002
      je 3f
      ${FAILED}
    3: ${EXIT_OK}`;
    const { result } = await runGuest(assemble(source), { ...options, reboot: true });
    expect(result).toMatchObject({ reason: 'debug-exit', status: GUEST_OK });
  });

  test.each(KINDS)("%o: text written to a debug console joins the serial port's, unless it is off", async (options) => {
    const source = `mov $'e', %al\n out %al, $0xe9\n mov $0x402, %dx\n mov $'f', %al\n out %al, %dx\n ${EXIT_OK}`;
    expect((await runGuest(assemble(source), options)).text).toBe('ef');
    expect((await runGuest(assemble(source), { ...options, debugConsole: 'off' })).text).toBe('');
  });
});

describeKvm('a text page', () => {
  test('is shown by screen() and, at the end of a run, on stderr; the CRT controller keeps its registers', async () => {
    const source = `
      mov $0x3d4, %dx
      mov $0x0e, %al
      out %al, %dx
      inc %dx
      mov $0x12, %al
      out %al, %dx
      xor %al, %al
      in %dx, %al
      cmp $0x12, %al
      jne 1f
      mov $0xb800, %ax
      mov %ax, %es
      movw $0x0748, %es:0
      movw $0x0769, %es:2
      ${EXIT_OK}
    1: ${FAILED}`;
    let screen = (): string => 'no machine';
    const { result } = await runGuest(assemble(source), {}, (machine) => {
      screen = () => machine.screen();
    });
    expect({ ...result, screen: screen() }).toMatchObject({ status: GUEST_OK, screen: 'Hi' });
    const directory = mkdtempSync(join(tmpdir(), 'apiary-screen-'));
    try {
      writeFileSync(join(directory, 'image'), assemble(source));
      const { stdout, stderr } = await command(['run', 'image', '--load-address', '0x1000'], { cwd: directory });
      expect({ stdout, stderr }).toEqual({ stdout: '', stderr: "apiary: the guest's screen at the end:\nHi\n" });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describeKvm('the I/O APIC', () => {
  for (const options of KINDS) {
    test.each([false, true])(
      `${JSON.stringify(options)}, gate %s: entry bits 55:49 count only with the gate`,
      async (gate) => {
        const { result, text } = await runGuest(guestImage('field/extended-destination'), {
          ...options,
          cpus: [0, 0x23, 0x123],
          x2apicApi: { use32bitIds: gate },
        });
        expect({ ...result, text }).toMatchObject({
          status: GUEST_OK,
          text: expect.stringContaining(gate ? 'taken by 0x123' : 'taken by 0x23\n'),
        });
      },
    );

    test(`${JSON.stringify(options)}: an EOI sends no edge interrupt again`, async () => {
      const { result, text } = await runGuest(guestImage('field/edge-eoi'), options);
      expect({ ...result, text }).toMatchObject({
        status: GUEST_OK,
        text: expect.stringContaining('edge: 1, level made edge: 1'),
      });
    });
  }
});
