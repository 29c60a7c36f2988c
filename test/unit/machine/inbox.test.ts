/** Main takes what the workers say in small portions, in order, and holds back behind what is not dealt with. */
import { beforeEach, describe, expect, test } from 'vitest';
import { Inbox } from '../../../src/machine/inbox.ts';
import type { FromWorker } from '../../../src/machine/shared/messages.ts';

let dealt: number[] = [];
let taken: number[] = [];
let inbox: Inbox;

const message = (slot: number): FromWorker => ({ type: 'ejected', slot });
const slotOf = (each: FromWorker): number => (each as { slot: number }).slot;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const turns = async (count: number): Promise<void> => {
  for (let done = 0; done < count; done++) await turn();
};
const spin = (millis: number): void => {
  const end = performance.now() + millis;
  while (performance.now() < end);
};

beforeEach(() => {
  dealt = [];
  taken = [];
  inbox = new Inbox(
    (each) => {
      dealt.push(slotOf(each));
      return undefined;
    },
    (worker) => taken.push(worker),
  );
});

test('messages are dealt with in order, not in the turn in which they come', async () => {
  for (let slot = 0; slot < 100; slot++) inbox.put(0, message(slot));
  expect(dealt).toEqual([]);
  await turns(2);
  expect(dealt).toEqual(Array.from({ length: 100 }, (_, slot) => slot));
  expect(taken).toHaveLength(100);
});

test('a flood does not keep a timer waiting', async () => {
  let flooding = true;
  inbox = new Inbox(
    () => {
      spin(1);
      if (flooding) inbox.put(0, message(0));
      return undefined;
    },
    () => {},
  );
  for (let slot = 0; slot < 1000; slot++) inbox.put(slot % 3, message(slot));
  await new Promise((resolve) => setTimeout(resolve, 5)); // for ever, if a turn lasted until nobody has anything to say
  flooding = false;
  inbox.close();
});

describe('a message that is not dealt with yet', () => {
  let settle: () => void = () => {};

  beforeEach(() => {
    inbox = new Inbox(
      (each) => {
        dealt.push(slotOf(each));
        if (slotOf(each) !== 1) return undefined;
        return new Promise<void>((resolve, reject) => {
          settle = dealt.length % 2 === 0 ? resolve : () => reject(new Error('the listener failed'));
        });
      },
      (worker) => taken.push(worker),
    );
  });

  test('holds its worker back, and no other', async () => {
    for (const slot of [0, 1, 2]) inbox.put(0, message(slot));
    for (const slot of [10, 11]) inbox.put(4, message(slot));
    await turns(5);
    expect(dealt.filter((slot) => slot < 10)).toEqual([0, 1]);
    expect(dealt).toContain(11);
    expect(taken.filter((worker) => worker === 0)).toHaveLength(1);
    settle();
    await turns(3);
    expect(dealt).toContain(2);
    expect(taken.filter((worker) => worker === 0)).toHaveLength(3);
  });

  test('that fails is dealt with too', async () => {
    inbox.put(0, message(1)); // the first: it rejects
    inbox.put(0, message(2));
    await turns(3);
    settle();
    await turns(3);
    expect(dealt).toEqual([1, 2]);
    expect(taken).toEqual([0, 0]);
  });

  test('does not hold up the end', async () => {
    for (const slot of [0, 1, 2, 3]) inbox.put(0, message(slot));
    await turns(3);
    inbox.close();
    expect(dealt).toEqual([0, 1, 2, 3]);
    inbox.put(0, message(4));
    await turns(3);
    expect(dealt).toEqual([0, 1, 2, 3]);
  });
});
