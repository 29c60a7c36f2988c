/** Messages to main have a limit: a worker that is ahead waits for main, or for its end. */
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { nativeHost } from '../../../src/machine/shared/native-host.ts';
import { messageTaken, Outbox } from '../../../src/machine/shared/outbox.ts';
import { Attention, SharedState, WorkerWord } from '../../../src/machine/shared/shared.ts';

const LIMIT = 32;
const WORKER = 3;
let channel: MessageChannel;
let shared: SharedState;
let outbox: Outbox;

beforeEach(() => {
  channel = new MessageChannel();
  shared = new SharedState(4, nativeHost);
  outbox = new Outbox(shared, WORKER, channel.port1, LIMIT);
});

afterEach(() => {
  channel.port1.close();
  channel.port2.close();
});

const send = (slot: number): void => outbox.send({ type: 'ejected', slot });
const received = (): number[] => {
  const slots: number[] = [];
  for (let item = receiveMessageOnPort(channel.port2); item; item = receiveMessageOnPort(channel.port2)) {
    slots.push((item.message as { slot: number }).slot);
  }
  return slots;
};

test('messages arrive in order, and it is empty once main has dealt with all', () => {
  expect(outbox.isEmpty).toBe(true);
  send(1);
  send(2);
  expect(outbox.isEmpty).toBe(false);
  expect(received()).toEqual([1, 2]);
  messageTaken(shared, WORKER);
  expect(outbox.isEmpty).toBe(false);
  messageTaken(shared, WORKER);
  expect(outbox.isEmpty).toBe(true);
});

test('a full outbox does not hold up a worker that has to stop', () => {
  for (let slot = 0; slot < LIMIT; slot++) send(slot);
  Atomics.or(shared.words, shared.worker(WORKER, WorkerWord.attention), Attention.stop);
  send(LIMIT); // would wait for ever
  expect(received()).toHaveLength(LIMIT + 1);
});

test('other workers have limits of their own', () => {
  const other = new Outbox(shared, WORKER + 1, channel.port1, LIMIT);
  for (let slot = 0; slot < LIMIT; slot++) send(slot);
  other.send({ type: 'reboot' });
  expect(received()).toHaveLength(LIMIT + 1);
});
