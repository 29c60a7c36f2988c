/** `apiary conform --record` and `--replay`: a kernel's answers into a file, and a model judged by such files. */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import pc from 'picocolors';
import { BEHAVIOURS, type Behaviour, type RuleName } from '../apic/index.ts';
import type { Layer } from '../conform/breaking.ts';
import { readRecording, writeRecording } from '../conform/recorded.ts';
import { type Replayed, replay } from '../conform/replay.ts';
import { ConfigError } from '../machine/errors.ts';
import { PACKAGE_ROOT } from '../package-root.ts';
import { table, wrapped } from './table.ts';

/** The cases that the package ships. */
const RECORDED = fileURLToPath(new URL('src/conform/recorded/', PACKAGE_ROOT));
/** As many lists as make some hundred kilobytes. */
const HOST_LISTS = 280;
const GUEST_LISTS = 180;
const MOST_FILE_BYTES = 64 * 2 ** 20;

/** @param layer only its lists: 1 the host's, 2 a guest's */
export async function recordTo(file: string, seed: number, behaviour: Behaviour, layer?: Layer): Promise<number> {
  if (layer === 3) throw new ConfigError('layer 3 asks no kernel: there is nothing to record');
  const { record } = await import('../conform/record.ts');
  const hostLists = layer === 2 ? 0 : HOST_LISTS;
  const guestLists = layer === 1 ? 0 : GUEST_LISTS;
  const lists = hostLists + guestLists;
  const onProgress = (done: number): void => {
    if (done % 20 === 0) process.stderr.write(`${done} of ${lists} lists\n`);
  };
  const onTrouble = (what: string): void => void process.stderr.write(`the guests' machines ended ${what}\n`);
  const recording = await record({
    seed,
    behaviour,
    hostLists,
    guestLists,
    onProgress,
    onTrouble,
  });
  const bytes = writeRecording(recording);
  try {
    writeFileSync(file, bytes);
  } catch (error) {
    throw new ConfigError(`cannot write ${file}: ${(error as NodeJS.ErrnoException).code}`);
  }
  const operations = recording.cases.reduce((sum, { candidate }) => sum + candidate.operations.length, 0);
  process.stdout.write(
    `${file}: ${operations} operations in ${recording.cases.length} lists, kernel ${recording.header.kernel}, ${bytes.length} bytes\n`,
  );
  return 0;
}

/** @param file undefined: all that the package has; @param behaviour undefined: what each file names */
export function replayFrom(
  file: string | undefined,
  behaviour: Behaviour | undefined,
  rule: RuleName | undefined,
): number {
  const rows: string[][] = [];
  let status = 0;
  const paths = file === undefined ? shipped() : [file];
  if (paths.length === 0) throw new ConfigError(`there are no recorded cases in ${RECORDED}; give a file`);
  for (const path of paths) {
    const recording = readRecordingFrom(path);
    const rules = behaviour ?? behaviourOf(recording.header.behaviour, path);
    const result = replay(recording, { behaviour: rules, breakRules: rule === undefined ? [] : [rule] });
    rows.push(row(basename(path, '.jsonl.gz'), recording.header.kernel, rules, result));
    if (result.failure === undefined) continue;
    status = 1;
    process.stderr.write(`${pc.red(`${path}: different`)}\n${result.failure.join('\n')}\n`);
  }
  process.stdout.write(`${table(['file', 'kernel', 'behaviour', 'lists', 'cases', 'result', 'seen'], rows)}\n`);
  return status;
}

export function shipped(): string[] {
  if (!existsSync(RECORDED)) return [];
  return readdirSync(RECORDED)
    .filter((name) => name.endsWith('.jsonl.gz'))
    .toSorted()
    .map((name) => `${RECORDED}${name}`);
}

function readRecordingFrom(path: string): ReturnType<typeof readRecording> {
  try {
    const { size } = statSync(path);
    if (!statSync(path).isFile()) throw new RangeError('not a regular file');
    if (size > MOST_FILE_BYTES) throw new RangeError(`${size} bytes are too many for recorded cases`);
    return readRecording(readFileSync(path));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new ConfigError(`${path}: ${code !== undefined && !(error instanceof RangeError) ? code : message}`);
  }
}

function behaviourOf(name: string, path: string): Behaviour {
  const known = BEHAVIOURS.find((each) => each === name);
  if (known === undefined)
    throw new ConfigError(wrapped(`${path} is of behaviour '${name}'; choose a model with --behaviour`));
  return known;
}

const row = (file: string, kernel: string, behaviour: string, { lists, operations, coverage, failure }: Replayed) => [
  file,
  kernel,
  behaviour,
  String(lists),
  String(operations),
  failure === undefined ? pc.green('equal') : pc.red('different'),
  `${coverage.entries.length - coverage.missing.length} of ${coverage.entries.length}`,
];
