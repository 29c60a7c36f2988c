/**
 * PVH's `hvm_start_info` (Xen, public/arch-x86/hvm/start_info.h, version 1): what EBX points to when a guest is entered by
 * its XEN_ELFNOTE_PHYS32_ENTRY. All in low memory but the modules, which go above the image. An absent thing has address 0.
 */
import { LOW_ZONE } from './guest-memory.ts';
import { cString, type LoadContext } from './load-options.ts';

const MAGIC = 0x336ec578;
const VERSION = 1;
const START_INFO = {
  magic: 0,
  version: 4,
  flags: 8,
  moduleCount: 12,
  modules: 16,
  commandLine: 24,
  rsdp: 32,
  memoryMap: 40,
  memoryMapCount: 48,
  size: 56,
} as const;
const MODULE = { address: 0, bytes: 8, commandLine: 16, size: 32 } as const;
const MEMORY_MAP_ENTRY = { address: 0, bytes: 8, type: 16, size: 24 } as const;
const PAGE = 0x1000;

/**
 * @param imageEnd first address after the image: modules go above it
 * @returns guest-physical address of the hvm_start_info
 */
export function writePvhStartInfo(context: LoadContext, imageEnd: number): number {
  const { memory, commandLine, modules, rsdpAddress } = context;
  const info = memory.allocate(START_INFO.size, 8, LOW_ZONE, 'the PVH start info');
  memory.setU32(info + START_INFO.magic, MAGIC);
  memory.setU32(info + START_INFO.version, VERSION);
  memory.setU64(info + START_INFO.commandLine, memory.store(cString(commandLine), 1, LOW_ZONE, 'the command line'));
  memory.setU64(info + START_INFO.rsdp, rsdpAddress);

  if (modules.length > 0) {
    const zone = memory.above(imageEnd);
    const list = memory.allocate(modules.length * MODULE.size, 8, LOW_ZONE, 'the module list');
    modules.forEach(({ name, bytes }, index) => {
      const entry = list + index * MODULE.size;
      memory.setU64(entry + MODULE.address, memory.store(bytes, PAGE, zone, `the module ${name}`));
      memory.setU64(entry + MODULE.bytes, bytes.length);
      memory.setU64(entry + MODULE.commandLine, memory.store(cString(name), 1, LOW_ZONE, "a module's name"));
    });
    memory.setU32(info + START_INFO.moduleCount, modules.length);
    memory.setU64(info + START_INFO.modules, list);
  }

  const map = memory.allocate(memory.map.length * MEMORY_MAP_ENTRY.size, 8, LOW_ZONE, 'the memory map');
  memory.map.forEach(({ base, size, type }, index) => {
    const entry = map + index * MEMORY_MAP_ENTRY.size;
    memory.setU64(entry + MEMORY_MAP_ENTRY.address, base);
    memory.setU64(entry + MEMORY_MAP_ENTRY.bytes, size);
    memory.setU32(entry + MEMORY_MAP_ENTRY.type, type);
  });
  memory.setU64(info + START_INFO.memoryMap, map);
  memory.setU32(info + START_INFO.memoryMapCount, memory.map.length);
  return info;
}
