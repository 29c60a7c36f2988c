/**
 * The APICs of one machine, and the messages between them. One object for each thread that uses them, all over the same
 * memory; made once with `new`, then by `attach` on the other threads.
 */
import { hex } from '../hex.ts';
import { makeBehaviour } from './behaviour.ts';
import { findDifferences, type MapDifference } from './differences.ts';
import { type Explanation, explain, routeAndTell } from './explain.ts';
import { type ApicHost, completeHost } from './host.ts';
import { ApicMemory, CONTROL, HEADER, IDENTITY } from './layout.ts';
import { type ApicServices, LocalApic } from './local-apic.ts';
import { lock, unlock } from './lock.ts';
import { ApicMap } from './map.ts';
import { type ApicMessage, FROM_DEVICE, inWords, makeCommand } from './message.ts';
import { MsiFormat } from './msi.ts';
import { type ApicSystemOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { ApicPort } from './port.ts';
import { Router } from './router.ts';
import { type ApicMapSnapshot, takeMapSnapshot } from './snapshot.ts';

const EINVAL = 22;

/**
 * The local APICs of one machine, and who may reach them: made by one thread, attached to by others
 * (`ApicSystem.attach`) over the same memory.
 */
export class ApicSystem {
  readonly memory: SharedArrayBuffer | ArrayBuffer;
  readonly options: ResolvedOptions;
  /** The sender's half of every APIC, for whoever addresses one vCPU directly. */
  readonly port: ApicPort;
  readonly #memory: ApicMemory;
  readonly #host: ApicHost;
  readonly #map: ApicMap;
  readonly #router: Router;
  readonly #msi: MsiFormat;
  readonly #services: ApicServices;
  readonly #views: LocalApic[] = [];

  /** Throws RangeError for an option out of range. */
  constructor(options: ApicSystemOptions = {}, host: Partial<ApicHost> = {}, memory?: ApicMemory) {
    this.#memory = memory ?? ApicMemory.create(resolveOptions(options));
    this.memory = this.#memory.buffer;
    this.options = this.#memory.options;
    this.#host = completeHost(host);
    const behaviour = makeBehaviour(this.#memory);
    this.#map = new ApicMap(this.#memory, behaviour, this.#host);
    this.port = new ApicPort(this.#memory, this.#host);
    this.#router = new Router(this.#memory, behaviour, this.port);
    this.#msi = new MsiFormat(this.#memory);
    this.#services = {
      memory: this.#memory,
      host: this.#host,
      behaviour,
      map: this.#map,
      port: this.port,
      send: (source, destination, command) => this.send(source, destination, command),
    };
  }

  /** Another thread's view of the same APICs. Throws RangeError if the memory is not a system's. */
  static attach(memory: SharedArrayBuffer | ArrayBuffer, host: Partial<ApicHost> = {}): ApicSystem {
    return new ApicSystem({}, host, ApicMemory.attach(memory));
  }

  /** The observer of routing decisions on this thread; null for none. */
  set trace(trace: ApicHost['trace']) {
    this.#host.trace = trace;
  }

  /** The observer of routing decisions on this thread; null for none. */
  get trace(): ApicHost['trace'] {
    return this.#host.trace;
  }

  /** APICs that there are; their vCPU indexes are 0 to `count` - 1. */
  get count(): number {
    return this.#memory.count;
  }

  /**
   * Adds an APIC, reset as at power-up. Its index is the order of creation, which is KVM's order of iteration. Any thread,
   * one at a time.
   * @param options `bootstrap`: the boot processor; default: the APIC with ID 0, as in KVM
   * @throws RangeError for an ID that is taken or out of range, or when all slots are
   */
  addApic(apicId: number, options: { readonly bootstrap?: boolean } = {}): LocalApic {
    const { maxApicId, maxApics, lateMapEntry } = this.options;
    if (!Number.isInteger(apicId) || apicId < 0 || apicId > maxApicId) {
      throw new RangeError(`an APIC ID is 0 to ${maxApicId}, not ${apicId}`);
    }
    const { words } = this.#memory;
    lock(words, HEADER.ADD_LOCK, 'the adding of an APIC');
    try {
      const index = this.count;
      if (this.apicById(apicId) !== undefined) throw new RangeError(`there is an APIC with ID ${hex(apicId)} already`);
      if (index >= maxApics) throw new RangeError(`all ${maxApics} APICs are in use`);
      const a = this.#memory.block(index);
      words[this.#memory.identity(index) + IDENTITY.APIC_ID] = apicId;
      words[a + CONTROL.BOOTSTRAP] = (options.bootstrap ?? apicId === 0) ? 1 : 0;
      const apic = new LocalApic(this.#services, index);
      this.#views[index] = apic;
      if (lateMapEntry) apic.reset(false);
      else apic.powerUp();
      Atomics.store(words, HEADER.COUNT, index + 1); // after its block is complete
      if (!lateMapEntry) this.rebuildMap();
      return apic;
    } finally {
      unlock(words, HEADER.ADD_LOCK);
    }
  }

  /** This thread's view of an APIC, made when it is first asked for. Throws RangeError if there is none. */
  apic(vcpuIndex: number): LocalApic {
    const view = this.#views[vcpuIndex];
    if (view !== undefined) return view;
    if (!Number.isInteger(vcpuIndex) || vcpuIndex < 0 || vcpuIndex >= this.count) {
      throw new RangeError(`there is no vCPU ${vcpuIndex}`);
    }
    const made = new LocalApic(this.#services, vcpuIndex);
    this.#views[vcpuIndex] = made;
    return made;
  }

  /** The APIC with that x2APIC ID (KVM's vcpu_id), if there is one. */
  apicById(apicId: number): LocalApic | undefined {
    const { words, count } = this.#memory;
    for (let i = 0; i < count; i++) {
      if (words[this.#memory.identity(i) + IDENTITY.APIC_ID] === apicId) return this.apic(i);
    }
    return undefined;
  }

  /**
   * Sends an MSI. Exactly KVM_SIGNAL_MSI's answer:
   * how many APICs took it (0: some APIC was meant, or the map knows that there is none, but nobody took it); -1 when a
   * scan found no APIC it was meant for (the ioctl fails with EPERM); -22 (EINVAL) when the gate is on and bits 7:0 of
   * `addressHigh` are not zero.
   */
  signalMsi(addressLow: number, addressHigh: number, data: number): number {
    const msi = this.#msi;
    if (msi.refuses(addressHigh)) return -EINVAL;
    return this.send(FROM_DEVICE, msi.destination(addressLow, addressHigh), msi.command(addressLow, data));
  }

  /** What an MSI says, as a message (the gate decides how wide its destination is). */
  msiMessage(addressLow: number, addressHigh: number, data: number): Required<ApicMessage> {
    const msi = this.#msi;
    return inWords(FROM_DEVICE, msi.destination(addressLow, addressHigh), msi.command(addressLow, data));
  }

  /**
   * Sends a message (message.ts), as an ICR write or an I/O APIC does.
   * @param source vCPU index of the sending APIC, or FROM_DEVICE
   * @param destination 0-0xffffffff
   * @param command the ICR low word's bits but for BUSY and the reserved ones, or `makeCommand`
   * @returns as `signalMsi`, but for -22
   */
  send(source: number, destination: number, command: number): number {
    const { trace } = this.#host;
    if (trace === null) return this.#router.route(source, destination, command);
    const event = routeAndTell(this.#router, source, destination, command);
    trace.event({ kind: 'route', ...event });
    return event.result;
  }

  /** `send`, of a message in words. */
  deliver(message: ApicMessage): number {
    return this.send(message.source ?? FROM_DEVICE, message.destination, makeCommand(message));
  }

  /** Who would be offered a message and why, and what the map and a scan say about it, without sending it. */
  explain(message: ApicMessage): Explanation {
    return explain(this.#router, message);
  }

  /** Whom the map and a scan disagree about for this message, and the name of the reason (differences.ts). */
  differences(message: ApicMessage): MapDifference[] {
    return findDifferences(this.#memory, this.#router, message);
  }

  /** What the map looks like now. */
  map(): ApicMapSnapshot {
    return takeMapSnapshot(this.#memory);
  }

  /** Rebuilds the map from what the registers say, as every change that matters does by itself. */
  rebuildMap(): void {
    this.#map.markDirty();
    this.#map.recalculate();
  }
}
