/**
 * `--trace FILE`: routed interrupts as the JSON that ui.perfetto.dev (and chrome://tracing) opens. One track for each vCPU
 * and one for devices; a message is a slice on its sender's track and an arrow to each vCPU that it was offered to.
 * Format: "Trace Event Format" (complete events X, flow events s and f, metadata M); times in microseconds.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { DELIVERY_NAMES } from '../apic/index.ts';
import { ConfigError } from '../machine/errors.ts';
import type { TraceEvent } from '../machine/trace.ts';

const PID = 1;
const DEVICES = 1_000_000; // the devices' track, after every vCPU
const SLICE_MICROS = 1;
const SHORTHANDS = ['none', 'self', 'all including self', 'all excluding self'];

const hex = (value: number): string => `0x${value.toString(16)}`;

export class TraceFile {
  readonly #fd: number;
  #first = true;
  #flows = 0;
  #start: number | undefined;
  readonly #apicIds: number[] = [];

  /** @throws ConfigError when the file cannot be written */
  constructor(path: string) {
    try {
      this.#fd = openSync(path, 'w');
    } catch (error) {
      throw new ConfigError(`cannot write trace ${path}: ${(error as NodeJS.ErrnoException).code}`);
    }
    writeSync(this.#fd, '[\n');
    this.#put({ name: 'process_name', ph: 'M', pid: PID, args: { name: 'apiary: local APICs' } });
    this.#nameTrack(DEVICES, 'devices and MSIs');
  }

  /** @param apicIds in the order of creation: an APIC ID for each vCPU index */
  nameCpus(apicIds: readonly number[]): void {
    for (const apicId of apicIds) {
      const vcpuIndex = this.#apicIds.push(apicId) - 1;
      this.#nameTrack(vcpuIndex, `vCPU ${vcpuIndex} (APIC ID ${hex(apicId)})`);
    }
  }

  write(event: TraceEvent): void {
    const { message, path, scan, nanos, result } = event;
    this.#start ??= nanos;
    const at = (nanos - this.#start) / 1000;
    const targets = (path === 'map' ? event.map : event.scanTargets) ?? [];
    const mode = DELIVERY_NAMES[message.deliveryMode] ?? `mode ${message.deliveryMode}`;
    const source = message.source < 0 ? DEVICES : message.source;
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

  async close(): Promise<void> {
    writeSync(this.#fd, '\n]\n');
    closeSync(this.#fd);
  }

  #name(vcpuIndex: number): string {
    const apicId = this.#apicIds[vcpuIndex];
    return apicId === undefined ? `vCPU ${vcpuIndex}` : `vCPU ${vcpuIndex} (APIC ID ${hex(apicId)})`;
  }

  #nameTrack(track: number, name: string): void {
    this.#put({ name: 'thread_name', ph: 'M', pid: PID, tid: track, args: { name } });
    this.#put({ name: 'thread_sort_index', ph: 'M', pid: PID, tid: track, args: { sort_index: track } });
  }

  #put(event: object): void {
    writeSync(this.#fd, `${this.#first ? '' : ',\n'}${JSON.stringify(event)}`);
    this.#first = false;
  }
}
