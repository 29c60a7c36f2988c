/** What keeps a command from asking KVM and lets it go on without: the host's refusals, and an addon that does not load. */
import { expect, it } from 'vitest';
import { hostsWord } from '../../../src/cli/without-kvm.ts';
import { AddonError, KvmError } from '../../../src/kvm/errors.ts';
import { ConfigError, HostError } from '../../../src/machine/errors.ts';

it.each([
  [new KvmError('open', 2, '/dev/kvm'), 'open /dev/kvm: ENOENT'],
  [new HostError('no thread\nat all'), 'no thread'],
  [new AddonError('the addon does not load (gone): npm rebuild apiary makes it'), 'the addon does not load (gone)'],
])('%s is the host`s', (error, why) => {
  expect(hostsWord(error)?.why).toContain(why);
  expect(hostsWord(error)?.why).not.toContain('\n');
});

it.each([new ConfigError('yours'), new TypeError('ours'), 'no error'])('%s is not', (error) => {
  expect(hostsWord(error)).toBeUndefined();
});
