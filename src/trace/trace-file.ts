/**
 * `--trace FILE`: what happened to interrupts and CPUs as the JSON that ui.perfetto.dev (and chrome://tracing) opens. One track
 * for each vCPU and one for devices; an event is a slice, a message also an arrow to each vCPU that it was offered to.
 * Format: "Trace Event Format" (complete events X, flow events s and f, metadata M); times in microseconds.
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
    this.#fd = openForWriting(path);
    this.#put({ name: 'process_name', ph: 'M', pid: PID, args: { name: 'apiary: local APICs' } });
    this.#nameTrack(DEVICES, 'devices and MSIs');
  }

  write(event: TraceEvent): void {
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
      this.#failed(cannotWrite(this.#path, error));
    }
  }
}
