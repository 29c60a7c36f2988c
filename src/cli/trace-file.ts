/**
 * `--trace FILE`: routed interrupts as the JSON that ui.perfetto.dev (and chrome://tracing) opens. One track for each vCPU
 * and one for devices; a message is a slice on its sender's track and an arrow to each vCPU that it was offered to.
 * Format: "Trace Event Format" (complete events X, flow events s and f, metadata M); times in microseconds.
 */

import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { DELIVERY_NAMES } from '../apic/index.ts';
import { hex } from '../hex.ts';
import { ConfigError } from '../machine/errors.ts';
import type { TraceEvent } from '../machine/trace.ts';

const PID = 1;
const DEVICES = 1_000_000; // the devices' track, after every vCPU
const SLICE_MICROS = 1;
const SHORTHANDS = ['none', 'self', 'all including self', 'all excluding self'];
/** Written out at this size: a system call for each event would take longer than the event. */
const BUFFER_CHARACTERS = 65_536;

export class TraceFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #apicIdOf: (vcpuIndex: number) => number | undefined;
  readonly #failed: (error: ConfigError) => void;
  readonly #tracks = new Set<number>();
  #text = '[\n';
  #separator = '';
  #broken = false;
  #flows = 0;
  readonly #start: number;

  /**
   * @param apicIdOf names the vCPUs' tracks
   * @param failed told once when the file cannot be written later on; events after that are dropped
   * @param startNanos time 0 of the trace, on the clock of its events (CLOCK_MONOTONIC): before all of them
   * @throws ConfigError when the file cannot be opened
   */
  constructor(
    path: string,
    apicIdOf: (vcpuIndex: number) => number | undefined,
    failed: (error: ConfigError) => void = () => {},
    startNanos = Number(process.hrtime.bigint()),
  ) {
    this.#start = startNanos;
    this.#path = path;
    this.#apicIdOf = apicIdOf;
    this.#failed = failed;
    try {
      this.#fd = openForWriting(path);
    } catch (error) {
      throw this.#error(error);
    }
    this.#put({ name: 'process_name', ph: 'M', pid: PID, args: { name: 'apiary: local APICs' } });
    this.#nameTrack(DEVICES, 'devices and MSIs');
  }

  write(event: TraceEvent): void {
    const { message, path, scan, nanos, result } = event;
    const targets = event.targets.map(({ vcpuIndex }) => vcpuIndex);
    const at = (nanos - this.#start) / 1000;
    const mode = DELIVERY_NAMES[message.deliveryMode] ?? `mode ${message.deliveryMode}`;
    const source = message.source < 0 ? DEVICES : message.source;
    for (const track of [source, ...targets]) this.#nameTrack(track, this.#name(track));
    this.#put({
      name: `${mode} ${hex(message.vector)} to ${hex(message.destination)}`,
      ph: 'X',
      pid: PID,
      tid: source,
      ts: at,
      dur: SLICE_MICROS,
      args: {
        destination: hex(message.destination),
        destinationMode: message.logical ? 'logical' : 'physical',
        shorthand: SHORTHANDS[message.shorthand] ?? 'none',
        trigger: message.trigMode ? 'level' : 'edge',
        path,
        result,
        taken: targets.map((index) => this.#name(index)).join(', ') || 'nobody',
        scan: scan.map(({ vcpuIndex, why }) => `${this.#name(vcpuIndex)}: ${why}`).join('; ') || 'no match',
      },
    });
    for (const target of targets) {
      const id = ++this.#flows;
      const arrow = { name: 'interrupt', cat: 'apic', pid: PID, id };
      this.#put({ ...arrow, ph: 's', tid: source, ts: at });
      this.#put({
        name: `${mode} ${hex(message.vector)}`,
        ph: 'X',
        pid: PID,
        tid: target,
        ts: at + SLICE_MICROS,
        dur: SLICE_MICROS,
      });
      this.#put({ ...arrow, ph: 'f', bp: 'e', tid: target, ts: at + SLICE_MICROS });
    }
  }

  close(): void {
    this.#text += '\n]\n';
    this.#writeOut();
    closeSync(this.#fd);
  }

  #name(vcpuIndex: number): string {
    const apicId = this.#apicIdOf(vcpuIndex);
    return apicId === undefined ? `vCPU ${vcpuIndex}` : `vCPU ${vcpuIndex} (APIC ID ${hex(apicId)})`;
  }

  /** Once for each track. */
  #nameTrack(track: number, name: string): void {
    if (this.#tracks.has(track)) return;
    this.#tracks.add(track);
    this.#put({ name: 'thread_name', ph: 'M', pid: PID, tid: track, args: { name } });
    this.#put({ name: 'thread_sort_index', ph: 'M', pid: PID, tid: track, args: { sort_index: track } });
  }

  #put(event: object): void {
    this.#text += `${this.#separator}${JSON.stringify(event)}`;
    this.#separator = ',\n';
    if (this.#text.length >= BUFFER_CHARACTERS) this.#writeOut();
  }

  #writeOut(): void {
    const bytes = Buffer.from(this.#text);
    this.#text = '';
    try {
      for (let done = 0; done < bytes.length && !this.#broken; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      this.#broken = true;
      this.#failed(this.#error(error));
    }
  }

  #error(error: unknown): ConfigError {
    const { code } = error as NodeJS.ErrnoException;
    const why = code === 'ENXIO' ? 'a pipe or socket' : code;
    return new ConfigError(`cannot write trace ${this.#path}: ${why}; give a file that can be written`);
  }
}

/** Never waits: neither for the reader of a pipe, which is refused, nor for a terminal. */
function openForWriting(path: string): number {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NONBLOCK, O_NOCTTY } = constants;
  const fd = openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY, 0o666);
  if (!fstatSync(fd).isFIFO()) return fd;
  closeSync(fd);
  throw Object.assign(new Error('a pipe'), { code: 'ENXIO' });
}
