/** What people call the words of the APICs' memory: the names of layout.ts and of the register table. */

import type { ApicMemory } from '../apic/layout.ts';
import { CONTROL, HEADER, IDENTITY, INBOX, MAP, PAGE_WORDS } from '../apic/layout.ts';
import { REG, REGISTERS } from '../apic/registers.ts';

const swap = (names: Readonly<Record<string, number>>): Map<number, string> =>
  new Map(Object.entries(names).map(([name, word]) => [word, name]));

const HEADER_NAMES = swap(HEADER);
const INBOX_NAMES = swap(INBOX);
const CONTROL_NAMES = swap(CONTROL);
const IDENTITY_NAMES = swap(IDENTITY);
const MAP_NAMES = swap(MAP);
const REGISTER_NAMES = new Map(REGISTERS.map(({ name, offset }) => [offset, name]));

export function apicWordName(memory: ApicMemory, word: number): string {
  const { maxApics } = memory.options;
  if (word < memory.identity(0)) return HEADER_NAMES.get(word) ?? `header word ${word}`;
  if (word < memory.block(0)) {
    const vcpu = Math.floor((word - memory.identity(0)) / (memory.identity(1) - memory.identity(0)));
    return `${IDENTITY_NAMES.get(word - memory.identity(vcpu)) ?? '?'} of vCPU ${vcpu}`;
  }
  if (word < memory.block(maxApics)) {
    const vcpu = Math.floor((word - memory.block(0)) / (memory.block(1) - memory.block(0)));
    return `${blockWordName(word - memory.block(vcpu))} of vCPU ${vcpu}`;
  }
  const buffer = word < memory.mapBuffer(1) ? 0 : 1;
  return `${mapWordName(word - memory.mapBuffer(buffer))} of map ${buffer}`;
}

function blockWordName(word: number): string {
  if (word >= PAGE_WORDS) return INBOX_NAMES.get(word) ?? CONTROL_NAMES.get(word) ?? `control word ${word}`;
  const offset = (word << 2) & ~0xf;
  for (const bank of ['ISR', 'TMR', 'IRR'] as const) {
    if (offset >= REG[bank] && offset < REG[bank] + 0x80) return `${bank}${(offset - REG[bank]) >>> 4}`;
  }
  return REGISTER_NAMES.get(offset) ?? `page word ${word}`;
}

function mapWordName(word: number): string {
  if (word >= MAP.PHYSICAL) return `PHYSICAL[0x${(word - MAP.PHYSICAL).toString(16)}]`;
  if (word >= MAP.CLUSTER) return `CLUSTER[${(word - MAP.CLUSTER) >> 2}.${(word - MAP.CLUSTER) & 3}]`;
  if (word >= MAP.FLAT) return `FLAT[${word - MAP.FLAT}]`;
  return MAP_NAMES.get(word) ?? `word ${word}`;
}
