/**
 * `--trace FILE`: what happened to interrupts and CPUs as the JSON that ui.perfetto.dev (and chrome://tracing) opens. One track
 * for each vCPU and one for devices; an event is a slice, a message also an arrow to each vCPU that it was offered to; exits
 * are a counter for each vCPU. Format: "Trace Event Format" (complete events X, flow events s and f, counters C, metadata M);
 * times in microseconds.
 */

import { closeSync, writeSync } from 'node:fs';
import { hex } from '../hex.ts';
import type { ConfigError } from '../machine/errors.ts';
import type { TraceEvent } from '../machine/trace.ts';
import { cannotWrite, openForWriting } from './output-file.ts';
import { DEVICES as LANE_DEVICES, traceWords } from './words.ts';

const PID = 1;
const DEVICES = 1_000_000; // the devices' track, after every vCPU
const SLICE_MICROS = 1;
/** Written out at this size: a system call for each event would take longer than the event. */
const BUFFER_CHARACTERS = 65_536;

/** ui.perfetto.dev opens that; an event takes some 300 bytes, and as much again for each CPU that it reached. */
export const DEFAULT_TRACE_BYTES = 2 ** 28;

export interface TraceFileOptions {
  /** Names the vCPUs' tracks. */
  readonly apicIdOf: (vcpuIndex: number) => number | undefined;
  /** Told once when the file cannot be written later on; events after that are dropped. */
  readonly failed?: (error: ConfigError) => void;
  /** The file gets no larger, by more than its last words; events after that are dropped. Default 256 MiB. */
  readonly maxBytes?: number;
  /** Told once when it is as large. */
  readonly full?: () => void;
  /** Time 0 of the trace, on the clock of its events (CLOCK_MONOTONIC): before all of them. Default: this process's start. */
  readonly startNanos?: number;
}

export class TraceFile {
  readonly #path: string;
  readonly #fd: number;
  readonly #options: TraceFileOptions;
  readonly #names = new Map<number, string>();
  readonly #tracks = new Set<number>();
  /** Bytes that may still be written. */
  #room: number;
  #text = '[\n';
  #separator = '';
  #broken = false;
  #flows = 0;
  readonly #start: number;

  /** @throws ConfigError when the file cannot be opened */
  constructor(path: string, options: TraceFileOptions) {
    this.#start = options.startNanos ?? Number(process.hrtime.bigint()) - performance.now() * 1e6;
    this.#path = path;
    this.#options = options;
    this.#room = options.maxBytes ?? DEFAULT_TRACE_BYTES;
    this.#fd = openForWriting(path);
    this.#put({ name: 'process_name', ph: 'M', pid: PID, args: { name: 'apiary: local APICs' } });
    this.#nameTrack(DEVICES, 'devices and MSIs');
  }

  write(event: TraceEvent): void {
    if (this.#room <= 0) return;
    if (event.kind === 'exits') {
      const ts = (event.nanos - this.#start) / 1000;
      this.#put({ name: `exits of ${this.#name(event.vcpuIndex)}`, ph: 'C', pid: PID, ts, args: event.counts });
      return;
    }
    const words = traceWords(event, (vcpuIndex) => this.#name(vcpuIndex));
    const at = (event.nanos - this.#start) / 1000;
    const track = words.lane === LANE_DEVICES ? DEVICES : words.lane;
    const targets = words.to ?? [];
    for (const each of [track, ...targets]) this.#nameTrack(each, this.#name(each));
    const args = { ...(words.tracepoint === undefined ? {} : { tracepoint: words.tracepoint }), ...words.details };
    const slice = { ph: 'X', pid: PID, dur: SLICE_MICROS };
    this.#put({ name: words.title, cat: event.kind, ...slice, tid: track, ts: at, args });
    for (const target of targets) {
      const id = ++this.#flows;
      const arrow = { name: 'interrupt', cat: 'apic', pid: PID, id };
      this.#put({ ...arrow, ph: 's', tid: track, ts: at });
      this.#put({ name: words.title, cat: event.kind, ...slice, tid: target, ts: at + SLICE_MICROS });
      this.#put({ ...arrow, ph: 'f', bp: 'e', tid: target, ts: at + SLICE_MICROS });
    }
    if (this.#room > 0) return;
    this.#put({ name: 'the trace is full and ends here', ph: 'i', s: 'g', pid: PID, tid: track, ts: at });
    this.#options.full?.();
  }

  close(): void {
    this.#text += '\n]\n';
    this.#writeOut();
    closeSync(this.#fd);
  }

  #name(vcpuIndex: number): string {
    const known = this.#names.get(vcpuIndex);
    if (known !== undefined) return known;
    const apicId = this.#options.apicIdOf(vcpuIndex);
    if (apicId === undefined) return `vCPU ${vcpuIndex}`;
    const name = `vCPU ${vcpuIndex} (APIC ID ${hex(apicId)})`;
    this.#names.set(vcpuIndex, name);
    return name;
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
    this.#room -= bytes.length;
    try {
      for (let done = 0; done < bytes.length && !this.#broken; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      this.#broken = true;
      this.#options.failed?.(cannotWrite(this.#path, error));
    }
  }
}
