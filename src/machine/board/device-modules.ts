/**
 * Devices of the user's own (`devices` of MachineOptions): modules that worker 0 loads before it builds the board. What is
 * wrong with one is the user's to mend, so it becomes a ConfigError, which main throws from `Machine.create`.
 */
import type { Bus } from '../../devices/bus.ts';
import type { Board, Device, DeviceModule } from '../../devices/device.ts';
import { ConfigError } from '../errors.ts';

/** A module and where it came from. */
export interface LoadedDevices {
  readonly url: string;
  readonly module: DeviceModule;
}

/** @throws ConfigError for a module that does not load or has no devices */
export async function loadDevices(urls: readonly string[]): Promise<LoadedDevices[]> {
  const loaded: LoadedDevices[] = [];
  for (const url of urls) {
    const module = (await import(url).catch((error: unknown) => {
      throw problem(url, error);
    })) as Partial<DeviceModule>;
    const { devices } = module;
    if (typeof devices !== 'function') throw problem(url, 'it does not export a function named devices');
    loaded.push({ url, module: { devices } });
  }
  return loaded;
}

const METHODS = ['read', 'write', 'reset', 'save', 'restore'] as const satisfies (keyof Device)[];

/** @throws ConfigError when they cannot be made, or sit where another device does */
export function registerDevices(bus: Bus, board: Board, loaded: readonly LoadedDevices[]): void {
  for (const { url, module } of loaded) {
    try {
      const made: unknown = module.devices(board);
      if (!Array.isArray(made)) throw new TypeError('its function devices answers no list of devices');
      for (const device of made) {
        const missing = METHODS.filter((name) => typeof device?.[name] !== 'function');
        if (missing.length > 0) throw new TypeError(`a device of it has no ${missing.join(', ')}`);
        bus.register(device);
      }
    } catch (error) {
      throw problem(url, error);
    }
  }
}

function problem(url: string, error: unknown): ConfigError {
  const text = error instanceof Error ? error.message : String(error);
  return new ConfigError(`devices ${url}: ${text.split('\n', 1)[0]}`);
}
