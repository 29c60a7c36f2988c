/**
 * A short run as a picture: an SVG that opens in any browser. One lane for each CPU (and one for devices), time goes down,
 * an arrow is a message from its sender to each that it was offered to, a dot is something that happened to one CPU. What
 * lies behind a mark is its tooltip. Rows are in order, not to scale: gaps between events are written beside them.
 */

/** A lane is a number of the caller's; `LANE_DEVICES` is the one for devices. */
export interface ChartEvent {
  readonly nanos: number;
  /** Where it happened, or who sent it. */
  readonly lane: number;
  /** Lanes that a message was offered to; undefined for something that is no message. */
  readonly to?: readonly number[];
  /** A few words beside the mark. */
  readonly label: string;
  /** The tooltip. */
  readonly why: string;
  /** Something was lost, or met nobody. */
  readonly lost?: boolean;
}

export interface Lane {
  readonly lane: number;
  readonly name: string;
}

export const LANE_DEVICES = -1;

/** More rows than this are a file for ui.perfetto.dev, not a picture. */
export const MAX_ROWS = 400;

const LANE_WIDTH = 150;
const TIME_WIDTH = 90;
const ROW_HEIGHT = 22;
const HEAD = 58;
const STYLE = [
  'text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#24292f}',
  '.head{font-weight:bold;text-anchor:middle}.time{fill:#6e7781;text-anchor:end;font-size:11px}',
  '.lane{stroke:#d0d7de}.arrow{stroke:#0969da;stroke-width:1.5;fill:none}.dot{fill:#57606a}',
  '.lost .arrow{stroke:#cf222e;stroke-dasharray:4 3}.lost .dot,.lost text.label{fill:#cf222e}',
  '.label{paint-order:stroke;stroke:#fff;stroke-width:3px}g:hover .arrow{stroke-width:3}',
].join('');

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

function ago(nanos: number): string {
  if (nanos < 1000) return `+${Math.round(nanos)} ns`;
  if (nanos < 1e6) return `+${(nanos / 1e3).toFixed(1)} us`;
  return nanos < 1e9 ? `+${(nanos / 1e6).toFixed(1)} ms` : `+${(nanos / 1e9).toFixed(2)} s`;
}

/**
 * @param title in one line above the lanes
 * @param events in any order; the first MAX_ROWS by time are drawn, and the picture says how many are left out
 */
export function sequenceChart(title: string, lanes: readonly Lane[], events: readonly ChartEvent[]): string {
  const sorted = events.toSorted((a, b) => a.nanos - b.nanos);
  const drawn = sorted.slice(0, MAX_ROWS);
  const x = new Map(lanes.map(({ lane }, index) => [lane, TIME_WIDTH + LANE_WIDTH * (index + 0.5)]));
  const width = TIME_WIDTH + LANE_WIDTH * lanes.length + 60;
  const height = HEAD + ROW_HEIGHT * (drawn.length + 2);
  const body: string[] = [];
  for (const { lane, name } of lanes) {
    const at = x.get(lane) ?? 0;
    body.push(`<text class="head" x="${at}" y="44">${escaped(name)}</text>`);
    body.push(`<line class="lane" x1="${at}" x2="${at}" y1="${HEAD - 6}" y2="${height - ROW_HEIGHT}"/>`);
  }
  drawn.forEach((event, row) => {
    const y = HEAD + ROW_HEIGHT * (row + 1);
    const previous = drawn[row - 1];
    const time = previous === undefined ? '0' : ago(event.nanos - previous.nanos);
    body.push(`<text class="time" x="${TIME_WIDTH - 12}" y="${y + 4}">${time}</text>`, drawEvent(event, x, y));
  });
  if (sorted.length > drawn.length) {
    const rest = `${sorted.length - drawn.length} later events are left out`;
    body.push(`<text x="${TIME_WIDTH}" y="${height - 8}">${rest}</text>`);
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<style>${STYLE}</style>`,
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
    '<path d="M0 0 8 4 0 8z" fill="context-stroke"/></marker></defs>',
    `<rect width="100%" height="100%" fill="#fff"/><text x="12" y="20">${escaped(title)}</text>`,
    ...body,
    '</svg>',
    '',
  ].join('\n');
}

function drawEvent(event: ChartEvent, x: ReadonlyMap<number, number>, y: number): string {
  const from = x.get(event.lane) ?? 0;
  const targets = event.to ?? [];
  const parts = [`<title>${escaped(event.why)}</title>`];
  for (const lane of targets) {
    const to = x.get(lane) ?? 0;
    const path = to === from ? `M${from} ${y - 5}h26v10h-22` : `M${from} ${y}H${to + (to > from ? -3 : 3)}`;
    parts.push(`<path class="arrow" d="${path}" marker-end="url(#tip)"/>`);
  }
  if (event.to !== undefined && targets.length === 0) {
    parts.push(`<path class="arrow" d="M${from} ${y}h40"/><text x="${from + 42}" y="${y + 4}">x</text>`);
  }
  parts.push(`<circle class="dot" cx="${from}" cy="${y}" r="3"/>`);
  parts.push(`<text class="label" x="${labelAt(from, targets, x)}" y="${y - 4}">${escaped(event.label)}</text>`);
  return `<g${event.lost === true ? ' class="lost"' : ''}>${parts.join('')}</g>`;
}

/** Beside the sender, on the side to which the first arrow goes. */
function labelAt(from: number, targets: readonly number[], x: ReadonlyMap<number, number>): number {
  const to = targets[0] === undefined ? from : (x.get(targets[0]) ?? from);
  return to < from ? to + 8 : from + 8;
}
