/** The plan of the training, made again after each change; a newer one ends the older one. */

import { ApiError } from "../../http";
import { Store } from "../../store";
import type { BeforeTraining, Planned, RunDetails, StudioApi } from "../../studio/api";
import type { TrainingPlan, TrainOutput } from "./plan";

export interface PlanState {
  /** The newest plan; it stays while the next one is made. Null before the dataset is laid out. */
  readonly plan: TrainingPlan | null;
  /** What runs before the training. */
  readonly before: BeforeTraining | null;
  readonly warnings: readonly string[];
  readonly problem: { readonly error: string; readonly hint: string } | null;
  readonly planning: boolean;
  /** The newest run, by whose pace the time is estimated. */
  readonly earlier: RunDetails | null;
}

/** Milliseconds, so that several changes at once are one plan. */
const DELAY = 150;

export class Planner {
  readonly store = new Store<PlanState>({
    plan: null,
    before: null,
    warnings: [],
    problem: null,
    planning: false,
    earlier: null,
  });
  private timer: ReturnType<typeof setTimeout> | undefined;
  private request: AbortController | null = null;

  constructor(private readonly api: StudioApi) {}

  plan(): void {
    clearTimeout(this.timer);
    this.store.set({ planning: true });
    this.timer = setTimeout(() => void this.make(), DELAY);
  }

  private async make(): Promise<void> {
    this.request?.abort();
    const request = new AbortController();
    this.request = request;
    try {
      const before = await this.api.beforeTraining();
      if (this.request !== request) return;
      this.store.set({ before });
      const [layout, training] = await Promise.all([
        before.before.includes("layout")
          ? this.api.plan({ verb: "layout" }, request.signal)
          : undefined,
        before.exists ? this.api.plan<TrainOutput>({ verb: "train" }, request.signal) : undefined,
      ]);
      if (this.request !== request) return;
      const problem = before.problem ?? problemOf(layout) ?? problemOf(training);
      if (problem) {
        this.store.set({ problem });
        return;
      }
      const plan = training?.output?.result.plan ?? null;
      this.store.set({ plan, warnings: training?.output?.warnings ?? [], problem: null });
      if (plan) await this.findEarlier();
    } catch (error) {
      // Replaced by a newer one, of this tab or of another.
      if (!(error instanceof ApiError) || error.status === 409) return;
      this.store.set({ problem: { error: error.message, hint: error.hint } });
    } finally {
      if (this.request === request) this.store.set({ planning: false });
    }
  }

  private async findEarlier(): Promise<void> {
    const { runs } = await this.api.runs();
    const newest = runs.find((run) => run.seconds_per_step !== null);
    if (newest && newest.id !== this.store.get().earlier?.run.id) {
      this.store.set({ earlier: await this.api.run(newest.id) });
    }
  }
}

function problemOf(planned: Planned<unknown> | undefined): PlanState["problem"] {
  return planned && !planned.output ? { error: planned.error, hint: planned.hint } : null;
}

/** The steps of the training: where the dataset is laid out first, those of the new layout. */
export function stepsOf({ plan, before }: PlanState): number | null {
  return before?.steps ?? plan?.steps ?? null;
}
