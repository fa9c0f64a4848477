/** What `dsk train --dry-run` says, and the sentences of the form that follow from it. */

import type { RunDetails, Table } from "../../studio/api";

export interface TrainingPlan {
  readonly steps: number;
  readonly epochs: number;
  readonly options: Table;
  readonly totals: { readonly samples: number; readonly batches: number };
  readonly subsets: readonly {
    readonly subset: { readonly name: string; readonly repeats: number };
    readonly is_reg?: boolean;
    readonly images: number;
    readonly samples: number;
  }[];
  readonly buckets: readonly {
    readonly size: readonly [number, number];
    readonly images: number;
    readonly cut_mean: number;
    readonly cut_worst: number;
    readonly enlarged: number;
    readonly enlarged_most: number;
  }[];
  readonly captions: {
    readonly written: number;
    readonly missing: readonly unknown[];
    readonly empty: readonly unknown[];
    readonly too_long: readonly unknown[];
  };
  readonly rates: Readonly<Record<string, number>>;
  readonly model: { readonly family: string; readonly prediction: string; readonly note: string };
  readonly memory: {
    readonly shares: readonly {
      readonly name: string;
      readonly bytes: number;
      readonly how: string;
    }[];
    readonly assumed: boolean;
  } | null;
  readonly memory_bytes: number | null;
  readonly fits: readonly { readonly card: number; readonly options: Table }[];
  readonly disk: {
    readonly loras: number;
    readonly lora: number;
    readonly states: number;
    readonly state: number;
    readonly free: number;
  } | null;
  readonly to_download: readonly unknown[];
  readonly start: number;
}

export interface TrainOutput {
  readonly plan: TrainingPlan;
}

/** Images that are trained, without those of regularization. */
export function trainedImages(plan: TrainingPlan): number {
  return plan.subsets.filter((use) => !use.is_reg).reduce((sum, use) => sum + use.images, 0);
}

/** Samples of the whole training. */
export function allSamples(plan: TrainingPlan): number {
  return plan.totals.samples * plan.epochs;
}

export function cropped(plan: TrainingPlan): number {
  const images = plan.buckets.reduce((sum, bucket) => sum + bucket.images, 0);
  if (images === 0) return 0;
  return plan.buckets.reduce((sum, { images: n, cut_mean: cut }) => sum + n * cut, 0) / images;
}

export function enlarged(plan: TrainingPlan): number {
  return plan.buckets.reduce((sum, bucket) => sum + bucket.enlarged, 0);
}

export function diskNeeded(plan: TrainingPlan): number {
  const { disk } = plan;
  return disk ? disk.loras * disk.lora + disk.states * disk.state : 0;
}

/** Options that decide how long a step takes. */
const PACE = [
  "pretrained_model_name_or_path",
  "resolution",
  "train_batch_size",
  "gradient_accumulation_steps",
  "gradient_checkpointing",
  "base_precision",
];

/** The seconds of a training, by the pace of an earlier run with the same options of pace. */
export function estimatedSeconds(plan: TrainingPlan, earlier: RunDetails | null): number | null {
  const pace = paceOf(plan, earlier);
  return pace === null ? null : (plan.steps - plan.start) * pace;
}

/** The seconds of a step, by the same run; null where it is not known. */
export function paceOf(plan: TrainingPlan, earlier: RunDetails | null): number | null {
  const pace = earlier?.run.seconds_per_step;
  if (!earlier || pace == null) return null;
  const same = PACE.every(
    (name) => JSON.stringify(earlier.options[name]) === JSON.stringify(plan.options[name]),
  );
  return same ? pace : null;
}

/** Samples in all that a goal usually takes: from, to. */
export const USUAL_SAMPLES: Readonly<Record<string, readonly [number, number]>> = {
  character: [2000, 7000],
  style: [8000, 12_000],
  garment: [1200, 2500],
  face: [2000, 5000],
  object: [800, 2000],
};
