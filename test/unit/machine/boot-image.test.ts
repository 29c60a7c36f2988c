import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, rmSync, symlinkSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BootImage, type BootOptions } from '../../../src/machine/boot-image.ts';
import { checkOptions } from '../../../src/machine/options.ts';
import { elf64, MIB, patch } from '../boot/images.ts';

const MEMORY = 8 * MIB;
const GIB = 2 ** 30;
const config = checkOptions({ memory: MEMORY }, { maxVcpus: 4, maxVcpuId: 4, cores: 1 });
const ELF = elf64(MIB, { paddr: MIB, contents: Uint8Array.of(0xf4, 0x90) });

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'apiary-images-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function put(name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

async function start(image: string | Uint8Array, options: BootOptions = {}, memory = MEMORY) {
  const ram = new Uint8Array(memory);
  return { ram, state: (await BootImage.read(image, options, memory)).load(ram, config) };
}

const problem = (image: string | Uint8Array, options: BootOptions = {}, memory = MEMORY) =>
  start(image, options, memory).then(
    () => 'started',
    (error: Error) => `${error.name}: ${error.message}`,
  );

describe('an image packed by gzip', () => {
  it('is unpacked, from a file and from memory', async () => {
    const packed = gzipSync(ELF);
    for (const image of [put('guest.gz', packed), packed]) {
      const { ram, state } = await start(image);
      expect(state).toMatchObject({ format: 'elf', rip: MIB });
      expect(ram[MIB]).toBe(0xf4);
    }
  });

  it.each([
    ['cut', gzipSync(ELF).subarray(0, -10)],
    ['with a wrong checksum', patch(gzipSync(ELF), [gzipSync(ELF).length - 8, 4, 0])],
    ['that is only the magic', Uint8Array.of(0x1f, 0x8b)],
  ])('%s is one line', async (_, bytes) => {
    expect(await problem(bytes)).toMatch(/^ImageError: image: a broken gzip file: [^\n]+$/);
  });

  it('twice is said', async () => {
    expect(await problem(gzipSync(gzipSync(ELF)))).toBe(
      'ImageError: image: a gzip file in a gzip file: unpack it first',
    );
  });

  it('is unpacked no further than guest RAM, and given up once it cannot be an image', async () => {
    const padded = new Uint8Array(MEMORY + MIB);
    padded.set(ELF);
    expect((await start(gzipSync(padded))).state.format).toBe('elf'); // what is behind the segments does not matter
    expect(await problem(gzipSync(new Uint8Array(MEMORY * 2)))).toMatch(/nothing but zeros/);
    const bomb = put('bomb.gz', gzipSync(gzipSync(new Uint8Array(16 * MEMORY)))); // less than 1 kB for 128 MiB
    expect(await problem(bomb)).toMatch(/a gzip file in a gzip file/);
  });
});

describe('a file that is not to be read', () => {
  it.each([
    ['/dev/zero', /^ConfigError: cannot read image \/dev\/zero: not a regular file; copy it to one$/],
    ['/dev/null', /not a regular file/],
    ['/proc/self', /it is a directory/],
    ['/nonexistent/\x1b[2Jx\ny', /^ConfigError: cannot read image \/nonexistent\/\\x1b\[2Jx\\ny: no such file$/],
  ])('%j', async (path, message) => {
    expect(await problem(path)).toMatch(message);
    expect(await problem(ELF, { modules: [path] })).toMatch(new RegExp(message.source.replace('image', 'initrd')));
  });

  it('a pipe with no writer, and one that never ends', async () => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    expect(await problem(pipe)).toMatch(/not a regular file/);
    const endless = openSync(pipe, 'r+');
    writeSync(endless, ELF);
    expect(await problem(pipe)).toMatch(/not a regular file/);
  });

  it('a socket, and a circle of links', async () => {
    const path = join(folder, 'socket');
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    expect(await problem(path)).toMatch(/not a regular file/);
    server.close();
    symlinkSync('circle', join(folder, 'circle'));
    expect(await problem(join(folder, 'circle'))).toMatch(/symbolic links go round/);
  });
});

describe('a file larger than guest RAM', () => {
  it('of 5 GiB of nothing is one line', async () => {
    const path = put('sparse', '');
    truncateSync(path, 5 * GIB);
    expect(await problem(path)).toMatch(/^ImageError: .*sparse: nothing but zeros at its start/);
    expect(await problem(path, {}, 3 * GIB)).toMatch(/nothing but zeros/); // known long before 3 GiB are read
  });

  it('starts when what counts is at its beginning', async () => {
    const path = put('symbols.elf', ELF);
    truncateSync(path, 5 * GIB);
    expect((await start(path)).state.format).toBe('elf');
  });

  it('says so when what it needs is behind that', async () => {
    const far = elf64(MIB, { paddr: MIB, contents: new Uint8Array(MEMORY + 1) });
    expect(await problem(put('large.elf', far))).toMatch(
      /contents ends at 0x8\w+ of the file: give the guest more memory$/,
    );
    expect(await problem(far)).toMatch(/give the guest more memory/);
  });

  it('is refused as an initrd, alone and with others', async () => {
    const path = put('initrd', '');
    truncateSync(path, 5 * GIB);
    expect(await problem(ELF, { modules: [path] })).toMatch(
      /^ConfigError: initrd .* is larger than the guest's memory/,
    );
    const half = put('half', new Uint8Array(MEMORY / 2 + 1));
    expect(await problem(ELF, { modules: [half, half] })).toMatch(/larger than the guest's memory/);
  });

  it('as raw code is read no further than real mode reaches', async () => {
    const path = put('raw', '');
    truncateSync(path, 5 * GIB);
    expect(await problem(path, { loadAddress: 0x7c00 })).toMatch(/outside usable memory/);
  });
});

it('a signal ends the reading', async () => {
  const reason = new Error('time is up');
  const padded = new Uint8Array(32 * MIB);
  padded.set(ELF);
  for (const image of [put('ended.gz', gzipSync(padded)), put('ended', padded), gzipSync(padded)]) {
    const ending = new AbortController();
    const reading = BootImage.read(image, {}, 128 * MIB, ending.signal);
    ending.abort(reason);
    await expect(reading).rejects.toBe(reason);
  }
});
