/**
 * A worker thread: is a worker (machine-worker.ts) of one machine after the other.
 *
 * It blocks in the scheduler's loop and does not return to its event loop before the machine ends.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { keepCode } from '../start/keep-code.ts';
import { type LoadedDevices, loadDevices } from './board/device-modules.ts';
import { ConfigError } from './errors.ts';
import { kvmVcpus, MachineWorker, type OpenVcpu } from './machine-worker.ts';
import type { FromThread, MachinePart, ThreadStart, ToThread } from './shared/messages.ts';
import { nativeHost } from './shared/native-host.ts';
import { Outbox } from './shared/outbox.ts';
import { SharedState } from './shared/shared.ts';
import { Status } from './status.ts';

const { loaded } = workerData as ThreadStart;
Atomics.store(loaded, 0, 1);
Atomics.notify(loaded, 0);
parentPort?.on('message', (message: ToThread) => {
  if (message.type === 'quit') parentPort?.close();
  else if (needsNoModules(message)) play(message, kvmVcpus(message.handles.runSize));
  else void loadAndPlay(message);
});

/** Whether the thread can start at once. */
function needsNoModules({ worker, handles }: MachinePart): boolean {
  const { script, devices } = handles.config;
  return script === null && (worker !== 0 || devices.length === 0);
}

function play(part: MachinePart, openVcpu: OpenVcpu, devices: readonly LoadedDevices[] = []): void {
  const machine = new MachineWorker(part, { openVcpu, devices });
  machine.run();
  // A sandboxed thread can write no file.
  if (part.worker === 0 && machine.hasRun && part.handles.config.sandbox === 'off') keepCode();
  parentPort?.postMessage({ type: 'free' } satisfies FromThread);
}

async function loadAndPlay(part: MachinePart): Promise<void> {
  const { script, devices } = part.handles.config;
  try {
    const loaded = part.worker === 0 ? await loadDevices(devices) : [];
    play(
      part,
      script === null ? kvmVcpus(part.handles.runSize) : await scriptedVcpus(script, part.handles.memory),
      loaded,
    );
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    refuse(part, error);
  }
}

/** What the user gave for this machine is wrong; the thread is as good as before. */
function refuse({ worker, port, handles }: MachinePart, error: ConfigError): void {
  const shared = new SharedState(handles.maxVcpus, nativeHost, handles.shared);
  const outbox = new Outbox(shared, worker, port, handles.maxBacklog);
  outbox.send({ type: 'end', reason: 'monitor-error', status: Status.usage, detail: error.message });
  port.close();
  parentPort?.postMessage({ type: 'free' } satisfies FromThread);
}

async function scriptedVcpus(url: string, ram: Uint8Array): Promise<OpenVcpu> {
  const scripted = await import('./scripted-machine.ts');
  return scripted.scriptedVcpus(url, ram);
}
