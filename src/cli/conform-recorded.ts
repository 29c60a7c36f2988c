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
import { printJson } from './json.ts';
import { table, wrapped } from './table.ts';

/** The cases that the package ships. */
const RECORDED = fileURLToPath(new URL('src/conform/recorded/', PACKAGE_ROOT));
/** As many lists as make some hundred kilobytes. */
const HOST_LISTS = 280;
const GUEST_LISTS = 180;
const MOST_FILE_BYTES = 64 * 2 ** 20;

/** @param layer only its lists: 1 the host's, 2 a guest's */
export async function recordTo(
  file: string,
  {
    seed,
    behaviour,
    layer,
    cr8Writes,
    json,
  }: { seed: number; behaviour: Behaviour; layer: Layer | undefined; cr8Writes: boolean; json: boolean },
): Promise<number> {
  if (layer === 3) throw new ConfigError('layer 3 asks no kernel: there is nothing to record');
  const { record } = await import('../conform/record.ts');
  const hostLists = layer === 2 ? 0 : HOST_LISTS;
  const guestLists = layer === 1 ? 0 : GUEST_LISTS;
  const asked = hostLists + guestLists;
  const onProgress = (done: number): void => {
    if (done % 20 === 0) process.stderr.write(`${done} of ${asked} lists\n`);
  };
  const onTrouble = (what: string): void => void process.stderr.write(`the guests' machines ended ${what}\n`);
  const recording = await record({
    seed,
    behaviour,
    hostLists,
    guestLists,
    cr8Writes,
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
  const lists = recording.cases.length;
  const { kernel } = recording.header;
  if (json) return printJson({ file, kernel, behaviour, seed, lists, operations, bytes: bytes.length, status: 0 });
  process.stdout.write(
    `${file}: ${operations} operations in ${lists} lists, kernel ${kernel}, ${bytes.length} bytes\n`,
  );
  return 0;
}

export interface ReplayOptions {
  /** Absent: all that the package has. */
  readonly file: string | undefined;
  /** Absent: what each file names. */
  readonly behaviour: Behaviour | undefined;
  readonly broken: RuleName | undefined;
  readonly json: boolean;
}

interface ReplayedFile extends Replayed {
  readonly file: string;
  readonly kernel: string;
  readonly behaviour: Behaviour;
}

/** @returns the exit status: 1 if the model answers otherwise than a kernel did */
export function replayFrom({ file, behaviour, broken, json }: ReplayOptions): number {
  const paths = file === undefined ? shipped() : [file];
  if (paths.length === 0) throw new ConfigError(`there are no recorded cases in ${RECORDED}; give a file`);
  const files = paths.map((path): ReplayedFile => {
    const recording = readRecordingFrom(path);
    const rules = behaviour ?? behaviourOf(recording.header.behaviour, path);
    const replayed = replay(recording, { behaviour: rules, breakRules: broken === undefined ? [] : [broken] });
    if (replayed.failure !== undefined)
      process.stderr.write(`${pc.red(`${path}: different`)}\n${replayed.failure.join('\n')}\n`);
    return { file: basename(path, '.jsonl.gz'), kernel: recording.header.kernel, behaviour: rules, ...replayed };
  });
  const status = files.every(({ failure }) => failure === undefined) ? 0 : 1;
  if (json) return printJson({ files: files.map(forPrograms), status });
  process.stdout.write(`${forPeople(files)}\n`);
  return status;
}

const forPeople = (files: readonly ReplayedFile[]): string =>
  table(['file', 'kernel', 'behaviour', 'lists', 'cases', 'result', 'seen'], files.map(row));

const forPrograms = ({ coverage, ...rest }: ReplayedFile): object => ({
  ...rest,
  equal: rest.failure === undefined,
  seen: Object.fromEntries(coverage.entries),
});

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

const row = ({ file, kernel, behaviour, lists, operations, coverage, failure }: ReplayedFile): string[] => [
  file,
  kernel,
  behaviour,
  String(lists),
  String(operations),
  failure === undefined ? pc.green('equal') : pc.red('different'),
  `${coverage.entries.length - coverage.missing.length} of ${coverage.entries.length}`,
];
