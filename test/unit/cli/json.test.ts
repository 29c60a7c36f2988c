/** `--json` of each command that has it: one object on stdout, whose status is the command's. With or without KVM. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { RULE_NAMES } from '../../../src/apic/index.ts';
import { replayFrom, shipped } from '../../../src/cli/conform-recorded.ts';
import { whyNoKvm } from '../../../src/cli/without-kvm.ts';

const COMMAND = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));

/** Not spawnSync: a test that blocks for a minute looks dead to vitest. */
async function printed(line: string): Promise<Record<string, unknown>> {
  const [status, stdout] = await new Promise<[status: unknown, stdout: string]>((resolve) => {
    execFile(process.execPath, [COMMAND, ...line.split(' '), '--json'], (error, text) =>
      resolve([error?.code ?? 0, text]),
    );
  });
  const object = JSON.parse(stdout) as Record<string, unknown>;
  expect(Array.isArray(object)).toBe(false);
  expect(object.status).toBe(status);
  return object;
}

it.each([
  ['doctor', 'facts'],
  ['route --cpus 0,1 --to 1', 'answers'],
  ['conform --layer 3 --seconds 0.2', 'layers'],
  ['conform --table --behaviour hardware', 'questions'],
])('%s', async (line, result) => {
  expect(await printed(line)).toHaveProperty(result);
});

it('conform --break list has every rule by its name', async () => {
  const { rules, status } = (await printed('conform --break list')) as { rules: { name: string }[]; status: number };
  expect(rules.map(({ name }) => name)).toEqual(RULE_NAMES);
  expect(rules[0]).toEqual({
    name: RULE_NAMES[0],
    shows: expect.stringMatching(/^layer \d$/),
    rule: expect.any(String),
  });
  expect(status).toBe(0);
});

describe.skipIf(whyNoKvm() !== undefined)('with KVM', () => {
  it('conform --record tells what the file has', { timeout: 240_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'apiary-record-'));
    try {
      const file = join(folder, 'recorded.gz');
      const { lists, bytes } = await printed(`conform --record ${file} --layer 1`);
      expect([lists, bytes]).toEqual([280, statSync(file).size]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

const [recorded] = shipped();

describe.skipIf(recorded === undefined)('conform --replay', () => {
  it.each([
    [undefined, 0],
    ['vectorHashing', 1],
  ] as const)('tells each file, and the status is 1 where a model differs (without %s: %i)', (broken, status) => {
    let text = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
      text += chunk;
      return true;
    });
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    try {
      expect(replayFrom({ file: recorded, behaviour: undefined, broken, json: true })).toBe(status);
    } finally {
      vi.restoreAllMocks();
    }
    expect(JSON.parse(text)).toMatchObject({ files: [{ equal: status === 0, seen: expect.any(Object) }], status });
  });
});
