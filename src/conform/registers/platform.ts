/** The devices around a rig's CPUs. The guest touches none but the debug exit and the serial port, when it is lost. */
import { native } from '../../kvm/index.ts';
import type { InterruptRouter } from '../../machine/board/interrupt-router.ts';
import { Platform } from '../../machine/board/platform.ts';
import type { MachineConfig } from '../../machine/options.ts';

export function makePlatform(config: MachineConfig, ram: Uint8Array, router: InterruptRouter): Platform {
  const said: string[] = [];
  const end = (reason: string, status: number): never => {
    platform.flushConsole();
    throw new Error(`the guest ended: ${reason}, status ${status}. It said: ${said.join('')}`);
  };
  const platform = new Platform(config, ram, {
    router,
    nowNanos: native.nowNanos,
    end,
    reset: () => end('reset', 0),
    restart: () => end('reset', 0),
    picInterrupt: () => {},
    serialOutput: (bytes) => void said.push(Buffer.from(bytes).toString()),
    mainIsIdle: () => true,
    ejected: () => {},
    ost: () => {},
  });
  return platform;
}
