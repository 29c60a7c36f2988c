/** Why /dev/kvm cannot be opened, and what to do: read from the device itself and from where this process runs. */
import { existsSync, readFileSync, statSync } from 'node:fs';

export interface Device {
  /** Permission bits. */
  readonly mode: number;
  readonly gid: number;
  /** The group's name; undefined when there is none. */
  readonly group: string | undefined;
}

const READ_WRITE = 0o6;
const LOAD =
  "load KVM: 'sudo modprobe kvm_intel' or 'sudo modprobe kvm_amd' (VT-x or AMD-V must be on in the firmware, and in a " +
  'virtual machine nested virtualization must be on)';
const CONTAINER = 'start the container with --device /dev/kvm';

/** @param device undefined when it is not there @returns '' when nothing is known */
export function deviceAdvice(code: string, device: Device | undefined, inContainer: boolean): string {
  switch (code) {
    case 'ENOENT':
      return inContainer ? `${CONTAINER}; the host must have KVM loaded` : LOAD;
    case 'ENODEV':
    case 'ENXIO':
      return inContainer
        ? 'the device is there and no KVM behind it: load KVM on the host (kvm_intel or kvm_amd)'
        : `the device is there and no KVM behind it: ${LOAD}`;
    case 'EPERM':
      return inContainer
        ? CONTAINER
        : 'a sandbox or device policy forbids it: allow /dev/kvm (character device 10:232)';
    case 'EACCES':
      return device === undefined ? '' : permissionAdvice(device, inContainer);
    default:
      return '';
  }
}

function permissionAdvice({ mode, gid, group }: Device, inContainer: boolean): string {
  const bits = `mode ${(mode & 0o777).toString(8)}, group ${group ?? gid}`;
  const groupMay = ((mode >> 3) & READ_WRITE) === READ_WRITE;
  if (groupMay && inContainer) return `your user is not in its group (${bits}): ${CONTAINER} --group-add ${gid}`;
  if (groupMay && gid !== 0 && group !== undefined) {
    return `your user is not in its group (${bits}): 'sudo usermod -aG ${group} $USER', then log in again`;
  }
  return `only root may open it (${bits}): 'sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm', and your user into that group`;
}

/** What is to be done when `path` cannot be opened for `code`. Never throws. */
export function openAdvice(path: string, code: string): string {
  return deviceAdvice(code, look(path), isContainer());
}

function look(path: string): Device | undefined {
  try {
    const { mode, gid } = statSync(path);
    return { mode, gid, group: groupName(gid) };
  } catch {
    return undefined;
  }
}

function groupName(gid: number): string | undefined {
  try {
    const lines = readFileSync('/etc/group', 'utf8').split('\n');
    return lines.map((line) => line.split(':')).find(([, , id]) => Number(id) === gid)?.[0];
  } catch {
    return undefined;
  }
}

/** As Docker, Podman and systemd-nspawn show themselves. */
export function isContainer(): boolean {
  return existsSync('/.dockerenv') || existsSync('/run/.containerenv') || process.env.container !== undefined;
}
