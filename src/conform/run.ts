/** One layer from its options to its result: the judges are made and closed here. */
import type { Behaviour, RuleName } from '../apic/index.ts';
import type { Layer } from './breaking.ts';
import { type Progress, type Result, runCampaign } from './campaign.ts';
import { probeHost } from './host.ts';
import { KernelJudge } from './kernel-judge.ts';
import { Layer1 } from './layer1.ts';
import { runLayer3 } from './layer3.ts';
import { Layer2 } from './registers/layer2.ts';

export interface LayerOptions {
  readonly layer: Layer;
  readonly seed: number;
  readonly millis: number;
  readonly path?: string | undefined;
  readonly behaviour: Behaviour;
  readonly breakRules: readonly RuleName[];
  readonly shrink?: boolean | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** @throws KvmError when the host has no KVM that can be used */
export async function runLayer(options: LayerOptions): Promise<Result> {
  const { behaviour, breakRules } = options;
  switch (options.layer) {
    case 1: {
      const model = { ...probeHost(), behaviour, breakRules };
      const kernel = new KernelJudge();
      try {
        return await runCampaign(new Layer1(kernel, model), options);
      } finally {
        kernel.close();
      }
    }
    case 2: {
      const layer = await Layer2.create({ ...probeHost(), behaviour, breakRules }, options.seed);
      try {
        return await runCampaign(layer, options);
      } finally {
        layer.close();
      }
    }
    case 3:
      return await runLayer3({ behaviour, breakRules }, options);
  }
}
