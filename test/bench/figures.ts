/**
 * What the bench found out: figures under names that stay the same from run to run, the tables that people read, and the
 * targets with whether each was reached.
 */
import { writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import Table from 'cli-table3';

/** A target: `figure` is to be at most (or with `atLeast`, at least) `limit`, in the figure's unit. */
export interface Target {
  readonly what: string;
  readonly figure: string;
  readonly limit: number;
  readonly unit: string;
  readonly atLeast?: boolean;
}

export interface Section {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** How it was measured, and what a reader must know to trust it. */
  readonly note?: string;
}

/** A number for people: three digits that mean something. */
export function show(value: number | undefined, unit = ''): string {
  if (value === undefined || !Number.isFinite(value)) return '-';
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)}${unit === '' ? '' : ` ${unit}`}`;
}

export class Report {
  readonly #figures: Record<string, number> = {};
  readonly #targets: Target[] = [];

  /** @param name dotted, the unit at the end: `exit.pio-in.ns` */
  set(name: string, value: number): void {
    if (Number.isFinite(value)) this.#figures[name] = value;
  }

  get(name: string): number | undefined {
    return this.#figures[name];
  }

  target(target: Target): void {
    this.#targets.push(target);
  }

  print({ title, head, rows, note }: Section): void {
    const table = new Table({
      head: [...head],
      style: { head: [], border: [] },
      colAligns: head.map((_, column) => (column === 0 ? 'left' : 'right')),
    });
    for (const row of rows) table.push([...row]);
    process.stdout.write(`\n${title}\n${table.toString()}\n${note === undefined ? '' : `${note}\n`}`);
  }

  printTargets(): void {
    this.print({
      title: 'Targets',
      head: ['target', 'limit', 'measured', 'reached'],
      rows: this.#verdicts().map(({ what, limit, unit, atLeast = false, value, reached }) => [
        what,
        `${atLeast ? 'at least' : 'at most'} ${show(limit, unit)}`,
        show(value ?? Number.NaN, unit),
        value === null ? 'not measured' : reached ? 'yes' : 'NO',
      ]),
    });
  }

  /** @throws Error when the file cannot be written */
  write(path: string): void {
    const content = {
      date: new Date().toISOString(),
      host: { cpu: cpus()[0]?.model ?? '', cpus: cpus().length, kernel: release(), node: process.version },
      figures: this.#figures,
      targets: this.#verdicts(),
    };
    writeFileSync(path, `${JSON.stringify(content, null, 2)}\n`);
  }

  #verdicts(): (Target & { value: number | null; reached: boolean | null })[] {
    return this.#targets.map((target) => {
      const value = this.#figures[target.figure] ?? null;
      return {
        ...target,
        value,
        reached: value === null ? null : target.atLeast ? value >= target.limit : value <= target.limit,
      };
    });
  }
}
