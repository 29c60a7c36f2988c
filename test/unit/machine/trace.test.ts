/** What a worker tells of its vCPUs: events in batches, exits counted by kind and told with them. */
import { expect, test } from 'vitest';
import { ExitReason } from '../../../src/kvm/constants.ts';
import { type TraceEvent, TraceRecorder } from '../../../src/machine/trace.ts';
import { EINTR, LoopRig, NOTHING } from './loop-rig.ts';

function recorder(): { trace: TraceRecorder; batches: TraceEvent[][] } {
  const batches: TraceEvent[][] = [];
  let now = 0;
  const trace = new TraceRecorder(
    () => ++now,
    (events) => void batches.push([...events]),
  );
  return { trace, batches };
}

test('exits are counted by kind for each vCPU, and told with the next batch, once for each change', () => {
  const { trace, batches } = recorder();
  trace.exit(0, ExitReason.IO);
  trace.exit(2, ExitReason.HLT);
  trace.exit(0, ExitReason.IO);
  trace.exit(0, ExitReason.MMIO);
  trace.event({ kind: 'nmi', vcpuIndex: 1 });
  trace.flush();
  expect(batches).toEqual([
    [
      { kind: 'nmi', vcpuIndex: 1, nanos: 1 },
      { kind: 'exits', vcpuIndex: 0, counts: { IO: 2, MMIO: 1 }, nanos: 2 },
      { kind: 'exits', vcpuIndex: 2, counts: { HLT: 1 }, nanos: 3 },
    ],
  ]);
  trace.flush();
  expect(batches).toHaveLength(1);
  trace.exit(2, ExitReason.HLT);
  trace.flush();
  expect(batches[1]).toEqual([{ kind: 'exits', vcpuIndex: 2, counts: { HLT: 2 }, nanos: 4 }]);
});

test('a guest that only exits is told of too, though nothing else happens', () => {
  const { trace, batches } = recorder();
  for (let count = 0; count < 2500; count++) trace.exit(0, ExitReason.IO);
  expect(batches.flat()).toEqual([
    { kind: 'exits', vcpuIndex: 0, counts: { IO: 1024 }, nanos: 1 },
    { kind: 'exits', vcpuIndex: 0, counts: { IO: 2048 }, nanos: 2 },
  ]);
});

test('the loop counts each exit that KVM_RUN returns with, and none that a signal ended', () => {
  const { trace, batches } = recorder();
  const rig: LoopRig = new LoopRig([[NOTHING, -EINTR, NOTHING, () => rig.end]], { trace });
  rig.loop();
  trace.flush();
  const exits = batches.flat().filter(({ kind }) => kind === 'exits');
  expect(exits).toMatchObject([{ vcpuIndex: 0, counts: { INTR: 2 } }]);
});
