/** The devices around a rig's CPUs. The guest touches none but the debug exit and the serial port, when it is lost. */
import { native } from '../../kvm/index.ts';
import type { InterruptRouter } from '../../machine/board/interrupt-router.ts';
import { Platform } from '../../machine/board/platform.ts';
import type { MachineConfig } from '../../machine/options.ts';

/** What a guest that got lost may ask for. */
const ENDS: ReadonlySet<string> = new Set(['reset', 'restart', 'power-off']);

export function makePlatform(config: MachineConfig, ram: Uint8Array, router: InterruptRouter): Platform {
  const said: string[] = [];
  const ended = (how: string): never => {
    platform.flushConsole();
    throw new Error(`the guest ended: ${how}. It said: ${said.join('')}`);
  };
  const platform = new Platform(config, ram, {
    router,
    extendedDestinations: config.use32bitIds,
    nowNanos: native.nowNanos,
    mainIsIdle: () => true,
    screenMoved: () => {},
    report: (event) => {
      if (event.type === 'serial') said.push(Buffer.from(event.bytes).toString());
      else if (event.type === 'debug-exit') ended(`debug-exit, status ${event.status}`);
      else if (ENDS.has(event.type)) ended(event.type);
    },
  });
  return platform;
}
