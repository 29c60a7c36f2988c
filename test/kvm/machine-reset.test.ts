/**
 * Resets of a PC: INIT of the boot processor alone, by each way there is, goes through the firmware's "resume at 0040:0067"
 * or starts the image again with the devices as they are; 0xcf9 with its hard bit resets those too. RAM stays each time.
 */
import type { MachineOptions } from 'apiary';
import { expect, test } from 'vitest';
import { assemble, describeKvm, EXIT_OK, GUEST_OK, runGuest, SLOW_HOST_MS, sendIpi, X2APIC_MODE } from './support.ts';

const INITS = {
  'the keyboard controller': 'mov $0xfe, %al\n out %al, $0x64',
  'its output port': 'mov $0xd1, %al\n out %al, $0x64\n mov $0xde, %al\n out %al, $0x60',
  'port 0x92': 'mov $0, %al\n out %al, $0x92\n mov $1, %al\n out %al, $0x92',
  '0xcf9 without its hard bit': 'mov $0xcf9, %dx\n mov $4, %al\n out %al, %dx',
  'an INIT to itself': `${X2APIC_MODE} ${sendIpi(0x4_4500, 0)}`,
} as const;
const HARD = 'mov $0xcf9, %dx\n mov $6, %al\n out %al, %dx';
const WAIT = '9: hlt\n jmp 9b\n';

const say = (character: string): string => `mov $0x3f8, %dx\n mov $'${character}', %al\n out %al, %dx\n`;

/** Counts its starts in 0x3000; the second time it ends the run with 1, or 0x7f when the test device has lost a byte. */
const startedAgain = (reset: string): string => `
    ${say('S')}
    incb 0x3000
    cmpb $2, 0x3000
    je 1f
    mov $0x5a, %al
    out %al, $0xe0
    ${reset}
    ${WAIT}
  1: in $0xe0, %al
    cmp $0x5a, %al
    jne 2f
    ${EXIT_OK}
  2: mov $0x3f, %al
    out %al, $0xf4`;
const DEVICES_RESET = 0x7f;

const machines: readonly MachineOptions[] = [{ cpus: 2, threads: 2 }, { threads: 1 }, { cpus: 2, apic: 'kernel' }];
const name = ({ apic = 'user', cpus = 1 }: MachineOptions): string => `apic ${apic}, ${cpus} CPU(s)`;

describeKvm('INIT of the boot processor', () => {
  for (const options of machines) {
    test.each(Object.entries(INITS))(
      `${name(options)}: by %s: resumes at 0040:0067 when CMOS says so`,
      async (_way, init) => {
        const source = `
          movw $resume, 0x467
          movw $0, 0x469
          mov $0x0f, %al
          out %al, $0x70
          mov $0x0a, %al
          out %al, $0x71
          ${init}
          ${WAIT}
        resume: ${say('R')}
          ${EXIT_OK}`;
        const { result, text } = await runGuest(assemble(source), options);
        expect({ ...result, text }).toMatchObject({ reason: 'debug-exit', status: GUEST_OK, text: 'R' });
      },
      SLOW_HOST_MS,
    );
  }

  test.each(Object.entries(INITS))(
    'by %s: starts the image again, devices as they were',
    async (_way, init) => {
      const { result, text } = await runGuest(assemble(startedAgain(init)), { cpus: 2, reboot: true });
      expect({ ...result, text }).toMatchObject({
        reason: 'debug-exit',
        status: GUEST_OK,
        text: expect.stringMatching(/^S+$/),
      });
    },
    SLOW_HOST_MS,
  );

  test('a jump to FFFF:0000 is the same', async () => {
    const { result } = await runGuest(assemble(startedAgain('ljmp $0xffff, $0')), { reboot: true });
    expect(result).toMatchObject({ reason: 'debug-exit', status: GUEST_OK });
  });

  test('0xcf9 with its hard bit resets the devices too', async () => {
    const { result } = await runGuest(assemble(startedAgain(HARD)), { reboot: true });
    expect(result).toMatchObject({ reason: 'debug-exit', status: DEVICES_RESET });
  });

  test.each([...Object.entries(INITS), ['0xcf9 with its hard bit', HARD] as const])(
    'without `reboot`, by %s: the run ends',
    async (_way, reset) => {
      const { result } = await runGuest(assemble(`${reset}\n${WAIT}`), { cpus: 2 });
      expect(result).toMatchObject({ reason: 'reset', status: 0 });
    },
    SLOW_HOST_MS,
  );
});

/**
 * Each reset replaces KVM's routing table. Its buffer used to be collected before the ioctl read it: three of ten such
 * machines ended with KVM_SET_GSI_ROUTING: EINVAL.
 */
describeKvm('memory that an ioctl reads', () => {
  test('is alive when it does, while the collector is busy', async () => {
    const resets = assemble('mov $6, %al\n mov $0xcf9, %dx\n out %al, %dx\n jmp .');
    const options: MachineOptions = { apic: 'kernel', reboot: true, timeoutMs: 2000 };
    const garbage = setInterval(() => Array.from({ length: 1000 }, () => new ArrayBuffer(4096)), 1);
    try {
      const runs = await Promise.all(Array.from({ length: 10 }, () => runGuest(resets, options)));
      expect(runs.map(({ result }) => (result.reason === 'timeout' ? 'timeout' : result.detail))).toEqual(
        Array(10).fill('timeout'),
      );
    } finally {
      clearInterval(garbage);
    }
  });
});
