/**
 * How the conformance tests run: about ten seconds for each layer, or as long as CONFORM_SECONDS says (CI: 60), with a fresh
 * seed that is printed. Without KVM they are skipped, with the reason.
 */
import { accessSync, constants } from 'node:fs';
import type { Result } from '../../src/conform/campaign.ts';
import { type LayerOptions, runLayer } from '../../src/conform/run.ts';

export const SECONDS = Number(process.env.CONFORM_SECONDS ?? 10);

/** Why KVM cannot be used, or undefined. */
export function whyNoKvm(): string | undefined {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return `/dev/kvm: ${(error as NodeJS.ErrnoException).code}`;
  }
}

export const run = (options: Pick<LayerOptions, 'layer' | 'seed'> & Partial<LayerOptions>): Promise<Result> =>
  runLayer({ millis: SECONDS * 1000, behaviour: 'kvm', breakRules: [], ...options });

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
