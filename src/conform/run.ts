/**
 * One layer from its options to its result: the judges are made and closed here. What needs KVM is loaded with the layer
 * that asks it, so that layer 3 runs without the addon.
 */
import type { Behaviour, RuleName } from '../apic/index.ts';
import type { Layer } from './breaking.ts';
import { type Progress, type Result, runCampaign, type Suite } from './campaign.ts';
import { runLayer3 } from './layer3.ts';

export interface LayerOptions {
  readonly layer: Layer;
  readonly seed: number;
  readonly millis: number;
  readonly path?: string | undefined;
  readonly behaviour: Behaviour;
  readonly breakRules: readonly RuleName[];
  /** May the guests of layer 2 write CR8? Default true. */
  readonly cr8Writes?: boolean | undefined;
  readonly shrink?: boolean | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** @throws KvmError when the host has no KVM that can be used */
export async function runLayer(options: LayerOptions): Promise<Result> {
  const { behaviour, breakRules } = options;
  switch (options.layer) {
    case 1: {
      const { probeHost } = await import('./host.ts');
      const { KernelJudge } = await import('./kernel-judge.ts');
      const { Layer1 } = await import('./layer1.ts');
      const model = { ...probeHost(), behaviour, breakRules };
      return await runSuite(new Layer1(new KernelJudge(), model), options);
    }
    case 2: {
      const { probeHost } = await import('./host.ts');
      const { Layer2 } = await import('./registers/layer2.ts');
      const { probeMachine } = await import('./registers/probe.ts');
      const layer = new Layer2({ ...probeHost(), behaviour, breakRules }, await probeMachine(), options.cr8Writes);
      await layer.boot(options.seed);
      return await runSuite(layer, options);
    }
    case 3:
      return await runLayer3({ behaviour, breakRules }, options);
  }
}

async function runSuite<Case>(suite: Suite<Case> & { close(): void }, options: LayerOptions): Promise<Result> {
  try {
    return await runCampaign(suite, options);
  } finally {
    suite.close();
  }
}
