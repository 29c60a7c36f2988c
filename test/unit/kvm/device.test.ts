/** What to do when /dev/kvm cannot be opened: by its own mode and group, in a container and outside. */
import { describe, expect, test } from 'vitest';
import { type Device, deviceAdvice } from '../../../src/kvm/device.ts';

const kvm: Device = { mode: 0o20660, gid: 104, group: 'kvm' };

describe('deviceAdvice', () => {
  test.each<[string, string, Device | undefined, boolean, RegExp]>([
    [
      'its group may, ours is not in it',
      'EACCES',
      kvm,
      false,
      /not in its group \(mode 660, group kvm\): 'sudo usermod -aG kvm \$USER'/,
    ],
    ['the group has another name', 'EACCES', { ...kvm, group: 'virt' }, false, /usermod -aG virt /],
    [
      "it is root's alone",
      'EACCES',
      { mode: 0o20600, gid: 0, group: 'root' },
      false,
      /^only root may open it \(mode 600, group root\)/,
    ],
    [
      "it is root's and its group's",
      'EACCES',
      { mode: 0o20660, gid: 0, group: 'root' },
      false,
      /^only root may open it/,
    ],
    [
      'a group without a name, outside',
      'EACCES',
      { ...kvm, group: undefined },
      false,
      /^only root may open it \(mode 660, group 104\)/,
    ],
    ['a container', 'EACCES', { ...kvm, group: undefined }, true, /--device \/dev\/kvm --group-add 104$/],
    ['not there', 'ENOENT', undefined, false, /^load KVM: 'sudo modprobe kvm_intel'/],
    ['not there, in a container', 'ENOENT', undefined, true, /^start the container with --device \/dev\/kvm; the host/],
    ['a node without a driver', 'ENODEV', kvm, false, /^the device is there and no KVM behind it: load KVM/],
    ['a node without a driver, in a container', 'ENODEV', kvm, true, /load KVM on the host/],
    ['forbidden by a device policy', 'EPERM', kvm, false, /device 10:232/],
    ['something else', 'EIO', kvm, false, /^$/],
  ])('%s', (_name, code, device, inContainer, advice) => {
    expect(deviceAdvice(code, device, inContainer)).toMatch(advice);
  });
});
