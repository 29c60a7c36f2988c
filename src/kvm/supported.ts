/** Imported before anything that loads native code: elsewhere than on Linux on x86-64 the one error is ours, and says so. */
import { AddonError } from './errors.ts';

const { platform, arch } = process;
if (platform !== 'linux' || arch !== 'x64') {
  throw new AddonError(
    `guests run on Linux on x86-64, and this is ${platform} on ${arch}; apiary/apic works everywhere`,
  );
}
