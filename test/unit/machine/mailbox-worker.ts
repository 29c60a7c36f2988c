/** The requester of mailbox.test.ts: calls RemoteDevices as worker 1. */
import { parentPort, workerData } from 'node:worker_threads';
import { RemoteDevices } from '../../../src/machine/shared/mailbox.ts';
import { nativeHost } from '../../../src/machine/shared/native-host.ts';
import { SharedState } from '../../../src/machine/shared/shared.ts';

type Method = (...parameters: unknown[]) => unknown;
const { buffer, calls } = workerData as { buffer: SharedArrayBuffer; calls: [keyof RemoteDevices, ...unknown[]][] };
const devices = new RemoteDevices(new SharedState(4, nativeHost, buffer), 1);

const call = (name: keyof RemoteDevices, parameters: unknown[]): unknown =>
  (devices[name] as Method).apply(devices, parameters);

parentPort?.postMessage(calls.map(([name, ...parameters]) => call(name, parameters) ?? null));
