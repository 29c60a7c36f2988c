/**
 * The APICs of one machine, and the messages between them. One object for each thread that uses them, all over the same
 * memory; made once with `new`, then by `attach` on the other threads.
 */
import { hex } from '../hex.ts';
import { makeBehaviour } from './behaviour.ts';
import { findDifferences, type MapDifference } from './differences.ts';
import { type ApicMessage, completeMessage, type Explanation, explain } from './explain.ts';
import {
  DELIVERY,
  msiDeliveryMode,
  msiDestination,
  msiLevel,
  msiLogical,
  msiRedirectionHint,
  msiVector,
  msiWideDestination,
  SHORTHAND,
} from './fields.ts';
import { type ApicHost, completeHost } from './host.ts';
import { ApicMemory, CONTROL, HEADER, IDENTITY } from './layout.ts';
import { type ApicServices, LocalApic } from './local-apic.ts';
import { lock, unlock } from './lock.ts';
import { ApicMap } from './map.ts';
import { signalMsi } from './msi.ts';
import { type ApicSystemOptions, type ResolvedOptions, resolveOptions } from './options.ts';
import { ApicPort } from './port.ts';
import { FROM_DEVICE, Router } from './router.ts';
import { type ApicMapSnapshot, takeMapSnapshot } from './snapshot.ts';

export class ApicSystem {
  readonly memory: SharedArrayBuffer | ArrayBuffer;
  readonly options: ResolvedOptions;
  /** The sender's half of every APIC, for whoever addresses one vCPU directly. */
  readonly port: ApicPort;
  readonly #memory: ApicMemory;
  readonly #host: ApicHost;
  readonly #map: ApicMap;
  readonly #router: Router;
  readonly #services: ApicServices;
  readonly #views: LocalApic[] = [];

  /** Throws RangeError for an option out of range. */
  constructor(options: ApicSystemOptions = {}, host: Partial<ApicHost> = {}, memory?: ApicMemory) {
    this.#memory = memory ?? ApicMemory.create(resolveOptions(options));
    this.memory = this.#memory.buffer;
    this.options = this.#memory.options;
    this.#host = completeHost(host);
    const behaviour = makeBehaviour(this.#memory);
    this.#map = new ApicMap(this.#memory, behaviour);
    this.port = new ApicPort(this.#memory, this.#host);
    this.#router = new Router(this.#memory, behaviour, this.port);
    this.#services = {
      memory: this.#memory,
      host: this.#host,
      map: this.#map,
      port: this.port,
      send: (source, destination, logical, mode, vector, level, trigMode, shorthand) =>
        this.#send(source, destination, logical, mode, vector, level, trigMode, shorthand, false),
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

  get trace(): ApicHost['trace'] {
    return this.#host.trace;
  }

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
    lock(words, HEADER.ADD_LOCK);
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

  apicById(apicId: number): LocalApic | undefined {
    const { words } = this.#memory;
    for (let i = 0; i < this.count; i++) {
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
    if (this.#host.trace === null) return signalMsi(this.#memory, this.#router, addressLow, addressHigh, data);
    const message = this.msiMessage(addressLow, addressHigh, data);
    const explanation = this.explain(message);
    const result = signalMsi(this.#memory, this.#router, addressLow, addressHigh, data);
    this.#host.trace?.routed({ ...explanation, message: completeMessage(message), result });
    return result;
  }

  /** What an MSI says, as a message (the gate decides how wide its destination is). */
  msiMessage(addressLow: number, addressHigh: number, data: number): ApicMessage {
    return {
      destination: (this.options.x2apicFormat ? msiWideDestination(addressHigh) : 0) + msiDestination(addressLow),
      logical: msiLogical(addressLow),
      deliveryMode: msiDeliveryMode(data),
      vector: msiVector(data),
      trigMode: msiLevel(data),
      redirectionHint: msiRedirectionHint(addressLow),
    };
  }

  /** Sends any message, as an I/O APIC does. Answers as `signalMsi`, but for -22. */
  deliver(message: ApicMessage): number {
    const { source = FROM_DEVICE, destination, logical = false, deliveryMode = DELIVERY.FIXED, vector } = message;
    const { level = true, trigMode = false, shorthand = SHORTHAND.NONE, redirectionHint = false } = message;
    return this.#send(source, destination, logical, deliveryMode, vector, level, trigMode, shorthand, redirectionHint);
  }

  /** What the map and a scan say about a message, without sending it. */
  explain(message: ApicMessage): Explanation {
    return explain(this.#memory, this.#router, message);
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

  #send(
    source: number,
    destination: number,
    logical: boolean,
    mode: number,
    vector: number,
    level: boolean,
    trigMode: boolean,
    shorthand: number,
    hint: boolean,
  ): number {
    const router = this.#router;
    const { trace } = this.#host;
    if (trace === null) {
      return router.route(source, destination, logical, mode, vector, level, trigMode, shorthand, hint);
    }
    const message = {
      source,
      destination,
      logical,
      deliveryMode: mode,
      vector,
      level,
      trigMode,
      shorthand,
      redirectionHint: hint,
    };
    const explanation = this.explain(message);
    const result = router.route(source, destination, logical, mode, vector, level, trigMode, shorthand, hint);
    trace.routed({ ...explanation, message, result });
    return result;
  }
}
