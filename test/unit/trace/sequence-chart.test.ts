/** The picture of a run: well-formed SVG, a lane for each CPU, an arrow for each target, in the order of time. */
import { describe, expect, it } from 'vitest';
import { type ChartEvent, LANE_DEVICES, MAX_ROWS, sequenceChart } from '../../../src/trace/sequence-chart.ts';

const LANES = [
  { lane: LANE_DEVICES, name: 'devices' },
  { lane: 0, name: '0x0' },
  { lane: 1, name: '0x23' },
];
const event = (over: Partial<ChartEvent>): ChartEvent => ({ nanos: 0, lane: 0, label: 'l', why: 'w', ...over });
const count = (text: string, what: string): number => text.split(what).length - 1;

describe('sequence chart', () => {
  it('has a lane for each CPU, an arrow for each target and a tooltip for each event', () => {
    const svg = sequenceChart('run', LANES, [event({ to: [1, 0], why: 'xAPIC ID' }), event({ nanos: 2500, lane: 1 })]);
    expect(count(svg, 'class="lane"')).toBe(3);
    expect(count(svg, 'marker-end')).toBe(2);
    expect(count(svg, '<title>')).toBe(2);
    expect(svg).toContain('+2.5 us');
  });

  it('draws in the order of time, whatever the order in which threads reported', () => {
    const svg = sequenceChart('run', LANES, [
      event({ nanos: 5, label: 'second' }),
      event({ nanos: 1, label: 'first' }),
    ]);
    expect(svg.indexOf('first')).toBeLessThan(svg.indexOf('second'));
  });

  it('a message that met nobody is a broken arrow', () => {
    const svg = sequenceChart('run', LANES, [event({ to: [], lost: true })]);
    expect(svg).toContain('class="lost"');
    expect(count(svg, 'marker-end')).toBe(0);
  });

  it('escapes what would break the file', () => {
    const svg = sequenceChart('<a & "b">', LANES, [event({ why: '</title><script>' })]);
    expect(svg).not.toContain('<script>');
    expect(svg).toContain('&lt;a &amp; &quot;b&quot;&gt;');
  });

  it('a long run is cut, and says so', () => {
    const svg = sequenceChart(
      'run',
      LANES,
      Array.from({ length: MAX_ROWS + 7 }, (_, nanos) => event({ nanos })),
    );
    expect(count(svg, 'class="dot"')).toBe(MAX_ROWS);
    expect(svg).toContain('7 later events are left out');
  });
});
