/**
 * Recorded cases: what a kernel answered, in a file, so that a model can be judged where that kernel is not. The format is
 * described in RECORDED.md: gzip of JSON lines, a header and then one case a line. What is 0 or empty is left out.
 */
import { gunzipSync, gzipSync } from 'node:zlib';
import { type ApicSystemOptions, STATE_BYTES } from '../apic/index.ts';
import { applyRegisters, changesOf } from './page.ts';
import {
  type ApicSpec,
  type Case,
  type CpuOutcome,
  type Gates,
  isGuestOperation,
  isOperation,
  type Operation,
  type Outcome,
  type RegisterValue,
  type Result,
} from './spec.ts';

const FORMAT = 'apiary-cases';
const VERSION = 1;
/** No file of ours is a tenth of that; nobody's may fill the memory. */
const MOST_BYTES = 256 * 2 ** 20;

export interface RecordedHeader {
  /** What `uname -r` said. */
  readonly kernel: string;
  /** The behaviour that is its model. */
  readonly behaviour: string;
  /** The host's properties, as options of a model: without a guest, and with one. */
  readonly host: ApicSystemOptions;
  readonly guest: ApicSystemOptions;
}

export interface RecordedCase {
  readonly candidate: Case;
  readonly outcome: Outcome;
}

export interface Recording {
  readonly header: RecordedHeader;
  readonly cases: readonly RecordedCase[];
}

type Halves = readonly [low: number, high: number];

interface ApicLine {
  readonly apicId: number;
  readonly base: Halves;
  readonly registers: readonly RegisterValue[];
}

interface CpuLine extends Omit<ApicLine, 'apicId'>, Pick<CpuOutcome, 'count'> {
  readonly taken?: readonly (readonly [vector: number, operation: number])[];
}

interface CaseLine extends Partial<Gates>, Partial<Pick<Outcome, 'start' | 'events' | 'nanos'>> {
  readonly bootstrap?: number;
  readonly apics: readonly ApicLine[];
  readonly operations: readonly Operation[];
  readonly results: readonly Partial<Result>[];
  readonly cpus?: readonly CpuLine[];
}

export function writeRecording({ header, cases }: Recording): Uint8Array {
  const first = { format: FORMAT, version: VERSION, ...header };
  const lines = [first, ...cases.map(toLine)].map((line) => `${JSON.stringify(line)}\n`);
  return gzipSync(lines.join(''), { level: 9 });
}

/** @throws RangeError, with what is wrong in words, for anything but a recording */
export function readRecording(bytes: Uint8Array): Recording {
  const [first = '', ...rest] = unzip(bytes).split('\n');
  const header = parse(first, 1) as RecordedHeader & { format?: unknown; version?: unknown };
  if (header?.format !== FORMAT) throw new RangeError('this is no file of recorded cases');
  if (header.version !== VERSION)
    throw new RangeError(`the cases are of version ${header.version}, and ${VERSION} is what is read here`);
  const { kernel, behaviour, host, guest } = header;
  const cases = rest.flatMap((text, i) => (text === '' ? [] : [fromLine(parse(text, i + 2), i + 2)]));
  return { header: { kernel, behaviour, host, guest }, cases };
}

function unzip(bytes: Uint8Array): string {
  try {
    return gunzipSync(bytes, { maxOutputLength: MOST_BYTES }).toString();
  } catch (error) {
    throw new RangeError(`this is no file of recorded cases: ${(error as Error).message}`);
  }
}

function parse(text: string, line: number): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new RangeError(`line ${line} is not JSON`);
  }
}

function toLine({ candidate: { machine, operations }, outcome }: RecordedCase): object {
  const { x2apicFormat, broadcastQuirkDisabled, bootstrap, apics } = machine;
  const { start, results, cpus, events, nanos } = outcome;
  return compact({
    x2apicFormat,
    broadcastQuirkDisabled,
    bootstrap,
    apics: apics.map(({ apicId, baseLow, baseHigh, registers }) => ({ apicId, base: [baseLow, baseHigh], registers })),
    operations: operations.map((operation) => ({ ...operation, unit: undefined })), // that is for shrinking
    start,
    results: results.map(compact),
    cpus: cpus.map(toCpuLine),
    events,
    nanos,
  });
}

const toCpuLine = ({ baseLow, baseHigh, page, count, taken }: CpuOutcome): object => ({
  base: [baseLow, baseHigh],
  registers: changesOf(EMPTY, page),
  count: count?.least === count?.most ? undefined : count,
  taken: taken.length === 0 ? undefined : taken.map(({ vector, position }) => [vector, position]),
});

/** Without what is 0, false or empty. */
const compact = (line: object): object =>
  Object.fromEntries(
    Object.entries(line).filter(([, value]) => (Array.isArray(value) ? value.length > 0 : Boolean(value))),
  );

const EMPTY = new Uint8Array(STATE_BYTES);

function fromLine(value: unknown, number: number): RecordedCase {
  const line = check(value, number);
  const apics: ApicSpec[] = line.apics.map(({ base: [baseLow, baseHigh], ...rest }) => ({
    ...rest,
    baseLow,
    baseHigh,
  }));
  const { x2apicFormat = false, broadcastQuirkDisabled = false, bootstrap = 0, operations } = line;
  const rig = apics.map(({ apicId }) => apicId);
  const guest = operations.every(isGuestOperation);
  return {
    candidate: { machine: { x2apicFormat, broadcastQuirkDisabled, bootstrap, apics, rig }, operations },
    outcome: {
      start: line.start ?? [],
      results: line.results.map(({ changes, ...result }) => ({
        ...{ low: 0, high: 0, fault: 0, ...result },
        ...(guest ? {} : { changes: changes ?? [] }),
      })),
      cpus: (line.cpus ?? []).map(fromCpuLine),
      events: line.events ?? [],
      nanos: line.nanos ?? 0,
    },
  };
}

function fromCpuLine({ base: [baseLow, baseHigh], registers, taken = [], ...count }: CpuLine): CpuOutcome {
  const page = new Uint8Array(STATE_BYTES);
  applyRegisters(page, registers);
  return { ...count, taken: taken.map(([vector, position]) => ({ vector, position })), page, baseLow, baseHigh };
}

/** Is it a case that can be carried out? What is in the file is somebody's word. */
function check(value: unknown, number: number): CaseLine {
  const line = value as CaseLine;
  const wrong = (what: string): never => {
    throw new RangeError(`line ${number}: ${what}`);
  };
  if (typeof line !== 'object' || line === null) return wrong('no case');
  if (!Array.isArray(line.apics) || line.apics.length === 0) wrong('no APICs');
  if (!Array.isArray(line.operations) || line.operations.length === 0) wrong('no operations');
  if (!Array.isArray(line.results) || line.results.length !== line.operations.length)
    wrong('not a result for each operation');
  for (const { apicId, base, registers } of line.apics)
    if (!Number.isInteger(apicId) || !isNumbers(base, 2) || !isRegisters(registers)) wrong('an APIC without its state');
  for (const operation of line.operations) {
    if (!isOperation(operation)) wrong(`no such operation: ${JSON.stringify(operation)}`);
    if ('cpu' in operation && !(operation.cpu in line.apics)) wrong(`there is no CPU ${operation.cpu}`);
    if (operation.kind === 'state' && !isRegisters(operation.registers)) wrong('a state without registers');
  }
  for (const { base, registers } of line.cpus ?? [])
    if (!isNumbers(base, 2) || !isRegisters(registers)) wrong('a CPU without its state');
  return line;
}

const isNumbers = (value: unknown, count: number): boolean =>
  Array.isArray(value) && value.length === count && value.every(Number.isInteger);

const isRegisters = (value: unknown): boolean =>
  Array.isArray(value) && value.every((each) => isNumbers(each, 2) && each[0] >= 0 && each[0] <= STATE_BYTES - 4);
