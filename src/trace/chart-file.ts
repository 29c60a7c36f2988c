/**
 * `--trace FILE.svg`: the run as a sequence chart. Keeps the first events in memory and writes the picture at the end, since
 * the lanes are known only then. Messages, what was dropped and what CPUs did are drawn; what an arrow shows already
 * (a message that its target accepted, a CPU that goes on to run) is not drawn twice.
 */
import { closeSync, writeSync } from 'node:fs';
import type { ConfigError } from '../machine/errors.ts';
import type { TraceEvent } from '../machine/trace.ts';
import { cannotWrite, openForWriting } from './output-file.ts';
import { type ChartEvent, LANE_DEVICES, MAX_ROWS, sequenceChart } from './sequence-chart.ts';
import { DEVICES, traceWords } from './words.ts';

/** Threads report in batches, so the first rows by time are among more events than rows. */
const KEPT = 4 * MAX_ROWS;

export class ChartFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #failed: (error: ConfigError) => void;
  readonly #nameOf: (vcpuIndex: number) => string;
  readonly #events: ChartEvent[] = [];
  #dropped = 0;

  /**
   * @param nameOf a vCPU's lane: its APIC ID
   * @param failed told when the picture cannot be written at the end
   * @throws ConfigError when the file cannot be opened
   */
  constructor(path: string, nameOf: (vcpuIndex: number) => string, failed: (error: ConfigError) => void = () => {}) {
    this.#path = path;
    this.#nameOf = nameOf;
    this.#failed = failed;
    this.#fd = openForWriting(path);
  }

  write(event: TraceEvent): void {
    if (event.kind === 'exits' || (event.kind === 'accept' && event.taken)) return;
    if (event.kind === 'state' && event.state === 'running') return;
    if (this.#events.length >= KEPT) {
      this.#dropped++;
      return;
    }
    const { lane, to, title, details, lost } = traceWords(event, this.#nameOf);
    const why = Object.entries(details).map(([name, value]) => `${name}: ${value}`);
    const path = event.kind === 'route' ? ` (${event.path})` : '';
    this.#events.push({
      nanos: event.nanos,
      lane: lane === DEVICES ? LANE_DEVICES : lane,
      ...(to === undefined ? {} : { to }),
      label: title + path,
      why: [title, ...why].join('\n'),
      lost,
    });
  }

  close(): void {
    const seen = new Set(this.#events.flatMap(({ lane, to = [] }) => [lane, ...to]));
    seen.add(LANE_DEVICES);
    const lanes = [...seen]
      .sort((a, b) => a - b)
      .map((lane) => ({ lane, name: lane < 0 ? 'devices' : this.#nameOf(lane) }));
    const more = this.#dropped > 0 ? `; ${this.#dropped} later events are not in it` : '';
    const bytes = Buffer.from(sequenceChart(`apiary: who interrupted whom${more}`, lanes, this.#events));
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      this.#failed(cannotWrite(this.#path, error));
    }
    closeSync(this.#fd);
  }
}
