/**
 * One layer from its options to its result: the judges are made and closed here. What needs KVM is loaded with the layer
 * that asks it, so that layer 3 runs without the addon.
 */
import type { Behaviour, RuleName } from '../apic/index.ts';
import type { Layer } from './breaking.ts';
import { type CampaignOptions, type Result, runCampaign, type Suite } from './campaign.ts';
import { Layer3 } from './layer3.ts';

export interface LayerOptions extends Omit<CampaignOptions, 'shrinkMillis'> {
  readonly layer: Layer;
  readonly behaviour: Behaviour;
  readonly breakRules: readonly RuleName[];
  /** May the guests of layer 2 write CR8? Default true. */
  readonly cr8Writes?: boolean | undefined;
}

/** @throws KvmError when the host has no KVM that can be used */
export async function runLayer(options: LayerOptions): Promise<Result> {
  const { layer, seed, behaviour, breakRules, cr8Writes } = options;
  if (layer === 3) return await runSuite(new Layer3({ behaviour, breakRules }), { ...options, shrink: false });
  const { askMaxVcpuId, probeHost } = await import('./host.ts');
  const model = { ...probeHost(), behaviour, breakRules };
  if (layer === 1) {
    const { KernelJudge } = await import('./kernel-judge.ts');
    const { Layer1 } = await import('./layer1.ts');
    return await runSuite(new Layer1(new KernelJudge(), model, { maxVcpuId: askMaxVcpuId() }), options);
  }
  const { Layer2 } = await import('./registers/layer2.ts');
  const { probeMachine } = await import('./registers/probe.ts');
  const layer2 = new Layer2(model, await probeMachine(), cr8Writes);
  await layer2.prepare(seed); // outside the campaign's time
  return await runSuite(layer2, options);
}

async function runSuite<Case>(
  suite: Suite<Case> & { close(): void | Promise<void> },
  options: CampaignOptions,
): Promise<Result> {
  try {
    return await runCampaign(suite, options);
  } finally {
    await suite.close();
  }
}
