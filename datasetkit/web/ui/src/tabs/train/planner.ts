/** The plan of the training, made again after each change; a newer one ends the older one. */

import { ApiError } from "../../http";
import { Store } from "../../store";
import type { RunDetails, StudioApi } from "../../studio/api";
import type { TrainingPlan, TrainOutput } from "./plan";

export interface PlanState {
  /** The newest plan; it stays while the next one is made. */
  readonly plan: TrainingPlan | null;
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
      const { output, error, hint } = await this.api.plan<TrainOutput>(
        { verb: "train" },
        request.signal,
      );
      if (this.request !== request) return;
      if (output) {
        const { plan } = output.result;
        this.store.set({ plan, warnings: output.warnings, problem: null });
        await this.findEarlier();
      } else {
        this.store.set({ problem: { error, hint } });
      }
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
