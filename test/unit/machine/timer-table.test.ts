/** The earliest of many deadlines, kept while they come, move and go. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TimerTable } from '../../../src/machine/loop/timer-table.ts';

const NEVER = Number.POSITIVE_INFINITY;

test('an empty table is never due', () => expect(new TimerTable(4).next).toBe(NEVER));

test('the earliest deadline is next, and its vCPU is the one that is due', () => {
  const table = new TimerTable(4);
  table.set(2, 300);
  table.set(0, 100);
  table.set(1, 200);
  expect(table.next).toBe(100);
  expect(table.takeDue()).toBe(0);
  expect(table.next).toBe(200);
});

test('a deadline that moves later, or is disarmed, makes room for the next one', () => {
  const table = new TimerTable(4);
  table.set(0, 100);
  table.set(1, 200);
  table.set(0, 300);
  expect(table.next).toBe(200);
  table.set(1, NEVER);
  expect(table.next).toBe(300);
  table.set(0, NEVER);
  expect(table.next).toBe(NEVER);
});

test('whatever happens, next is the minimum and takeDue names one that has it', () => {
  const deadline = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constant(NEVER));
  const step = fc.oneof(fc.tuple(fc.nat({ max: 7 }), deadline), fc.constant('take' as const));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const table = new TimerTable(8);
      const model = new Array<number>(8).fill(NEVER);
      for (const each of steps) {
        if (each !== 'take') {
          model[each[0]] = each[1];
          table.set(...each);
        } else if (table.next !== NEVER) {
          const earliest = Math.min(...model);
          const due = table.takeDue();
          expect(model[due]).toBe(earliest);
          model[due] = NEVER;
        }
        expect(table.next).toBe(Math.min(...model));
      }
    }),
  );
});
