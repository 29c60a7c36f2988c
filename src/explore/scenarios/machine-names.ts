/** What people call the words of the machine's own memory: the names of machine/shared/shared.ts. */
import { MachineWord, type SharedState, WorkerWord } from '../../machine/shared/shared.ts';

const nameOf = (names: Readonly<Record<string, number>>, word: number): string =>
  Object.entries(names).find(([, at]) => at === word)?.[0] ?? `word ${word}`;

export function machineWordName(shared: SharedState, word: number): string {
  const firstWorker = shared.worker(0, 0);
  const workerWords = shared.worker(1, 0) - firstWorker;
  if (word < firstWorker) return nameOf(MachineWord, word);
  const firstVcpu = shared.request(0) - 1;
  if (word < firstVcpu) {
    const worker = Math.floor((word - firstWorker) / workerWords);
    return `${nameOf(WorkerWord, word - shared.worker(worker, 0))} of worker ${worker}`;
  }
  if (word < shared.readyRow(0)) {
    const vcpu = Math.floor((word - firstVcpu) / (shared.request(1) - shared.request(0)));
    const names = ['home', 'request', 'runState', 'changes'];
    return `${names[word - shared.request(vcpu) + 1] ?? 'spare word'} of vCPU ${vcpu}`;
  }
  return `ready bits of worker ${Math.floor((word - shared.readyRow(0)) / shared.rowWords)}`;
}
