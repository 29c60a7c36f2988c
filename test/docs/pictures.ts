/**
 * The two pictures of README.md: the hotplug guest's messages to 0x23 and 0x123, gate off and gate on, as our APICs route
 * them and `--trace FILE.svg` draws them. `npx tsx test/docs/pictures.ts` writes them; pictures.test.ts compares.
 */
import { writeFileSync } from 'node:fs';
import { ApicSystem, type ApicTraceEvent } from '../../src/apic/index.ts';
import { hex } from '../../src/hex.ts';
import { type ChartEvent, sequenceChart } from '../../src/trace/sequence-chart.ts';
import { traceWords } from '../../src/trace/words.ts';

const APIC_IDS = [0, 0x23, 0x123];
const VECTOR = 0x61;
const STEP_NANOS = 1000;

/** @param gate KVM_X2APIC_API_USE_32BIT_IDS */
export function picture(gate: boolean): string {
  const events: ChartEvent[] = [];
  const nameOf = (index: number): string => `CPU ${hex(APIC_IDS[index])}`;
  const tell = (event: ApicTraceEvent): void => {
    if (event.kind === 'accept' || event.kind === 'register') return;
    const nanos = events.length * STEP_NANOS;
    const { lane, to, title, details, lost } = traceWords({ ...event, nanos }, nameOf);
    const why = Object.entries(details).map(([name, value]) => `${name}: ${value}`);
    const label = event.kind === 'route' ? `${title} (${event.path})` : title;
    events.push({ nanos, lane, ...(to ? { to } : {}), label, why: [title, ...why].join('\n'), lost });
  };
  const system = new ApicSystem({ x2apicFormat: gate });
  const apics = APIC_IDS.slice(0, 2).map((id) => system.addApic(id));
  for (const apic of apics) apic.writeMmio(0xf0, 4, 0x1ff);
  apics[0].setApicBase(0xfee00d00, 0);
  system.trace = { event: tell };
  const added = system.addApic(0x123); // the hot-add
  apics.push(added);
  const send = (command: number, to: number): void => void apics[0].writeMsr(0x830, command, to);
  send(0x4500, 0x123);
  send(0x4608, 0x123);
  added.takeEvents();
  added.writeMmio(0xf0, 4, 0x1ff); // it starts, in xAPIC mode: its 8-bit ID is 0x23
  for (const destination of [0x123, 0x23]) {
    send(0x4000 | VECTOR, destination);
    for (const apic of apics) if (apic.acknowledge() >= 0) apic.eoi();
  }
  added.setApicBase(0xfee00c00, 0); // it switches to x2APIC mode
  send(0x4000 | VECTOR, 0x23);
  const lanes = [{ lane: -1, name: 'machine' }, ...APIC_IDS.map((_, lane) => ({ lane, name: nameOf(lane) }))];
  return sequenceChart(`0x123 is hot-added, gate ${gate ? 'on' : 'off'}`, lanes, events);
}

export const PICTURES = [
  { file: new URL('../../guest/pictures/gate-off.svg', import.meta.url), gate: false },
  { file: new URL('../../guest/pictures/gate-on.svg', import.meta.url), gate: true },
] as const;

if (process.argv[1]?.endsWith('pictures.ts') === true) {
  for (const { file, gate } of PICTURES) writeFileSync(file, picture(gate));
}
