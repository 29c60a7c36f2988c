// README's "A new device" is what a newcomer copies: it is taken from there, put on a bus, used, saved and restored.
import { readFileSync } from 'node:fs';
import { transform } from 'esbuild';
import { expect, test } from 'vitest';
import { Bus } from '../../../src/devices/bus.ts';
import type { Board, Device } from '../../../src/devices/device.ts';
import { TestBoard } from './board.ts';

type PostCardClass = new (board: Board) => Device;

async function postCard(): Promise<PostCardClass> {
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
  const source = /## A new device.*?```ts\n(.*?)```/s.exec(readme)?.[1] ?? '';
  const { code } = await transform(source, { loader: 'ts' });
  const { PostCard } = (await import(/* @vite-ignore */ `data:text/javascript,${encodeURIComponent(code)}`)) as {
    PostCard: PostCardClass;
  };
  return PostCard;
}

test('the device in README answers its port, drives its line, is reset, saved and restored', async () => {
  const PostCard = await postCard();
  const board = new TestBoard();
  const bus = new Bus();
  const device = new PostCard(board);
  bus.register(device);
  bus.writePort(0x80, 1, 0x42);
  expect(bus.readPort(0x80, 1)).toBe(0x42);
  bus.writePort(0x80, 1, 0xff);
  bus.writePort(0x80, 1, 0xff);
  expect(board.levels(5)).toEqual([true]);
  const copy = new PostCard(board);
  copy.restore(JSON.parse(JSON.stringify(device.save())));
  expect(copy.read(0, 0, 1)).toBe(0xff);
  bus.reset();
  expect([bus.readPort(0x80, 1), board.levels(5).at(-1)]).toEqual([0, false]);
});
