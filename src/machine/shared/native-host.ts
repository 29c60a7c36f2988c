/** The host of a real thread: the addon's timer and signals, and futexes. Each thread that is to be kicked imports it. */
import { native } from '../../kvm/native.ts';
import type { HostThread } from './host-thread.ts';

export const nativeHost: HostThread = {
  nowNanos: native.nowNanos,
  armTimer: native.armTimer,
  kick: native.kick,
  wait: (words, index, value, millis) => void Atomics.wait(words, index, value, millis),
};
