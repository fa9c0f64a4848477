/** The numbers of runs: loaded once, then added to by events. */

import { append, cutFrom, NO_SERIES, type Series } from "../../parts/chart/series";
import { Store } from "../../store";
import type { Metrics, StudioApi } from "../../studio/api";
import type { ServerEvent } from "../../studio/events";

export type XAxis = "step" | "samples" | "time";

/** The series of a run by name, all over its steps: `loss`, `lr/unet`, `validation/change`, ... */
export type RunMetrics = Readonly<Record<string, Series>>;

/** The most rows that a response has. */
const POINTS = 2000;

export function fromServer(series: Metrics["series"]): RunMetrics {
  return Object.fromEntries(
    Object.entries(series).map(([name, { step, mean, min, max }]) => [
      name,
      { x: step, mean, min: min ?? mean, max: max ?? mean },
    ]),
  );
}

export function add(run: RunMetrics, more: RunMetrics): RunMetrics {
  const names = new Set([...Object.keys(run), ...Object.keys(more)]);
  const joined: Record<string, Series> = {};
  for (const name of names) {
    joined[name] = append(run[name] ?? NO_SERIES, more[name] ?? NO_SERIES);
  }
  return joined;
}

export function cut(run: RunMetrics, step: number): RunMetrics {
  return Object.fromEntries(
    Object.entries(run).map(([name, series]) => [name, cutFrom(series, step)]),
  );
}

/** The names of the rates of a run, in an order that does not depend on how they came. */
export function rateNames(run: RunMetrics): readonly string[] {
  return Object.keys(run)
    .filter((name) => name.startsWith("lr/"))
    .sort();
}

/** So many colors and dashes can be distinguished. */
const LOOKS = 8;
/** Parts that most runs train: they have the same look in all runs. */
const looks = new Map([
  ["lr/unet", 1],
  ["lr/text_encoder", 2],
]);

/** The color and dash of a rate: always the same for a name, others may come and go. */
export function lookOf(name: string): number {
  const look = looks.get(name) ?? (looks.size % LOOKS) + 1;
  looks.set(name, look);
  return look;
}

/** A series over another x than steps. */
export function over(run: RunMetrics, name: string, x: XAxis): Series {
  const series = run[name] ?? NO_SERIES;
  if (x === "step" || series.x.length === 0) return series;
  const scale = x === "samples" ? cumulative(run["samples"] ?? NO_SERIES) : elapsed(run);
  let at = 0;
  const values = series.x.map((step) => {
    while (at < scale.x.length - 1 && (scale.x[at] ?? 0) < step) at += 1;
    return scale.mean[at] ?? 0;
  });
  // x must rise: the time of a resumed run goes on, but a clock may have been set back.
  for (let row = 1; row < values.length; row++) {
    values[row] = Math.max(values[row] ?? 0, (values[row - 1] ?? 0) + 1e-6);
  }
  return { ...series, x: values };
}

/** The samples of all steps so far. A row is the mean of the steps up to the next row. */
function cumulative(samples: Series): Series {
  let total = 0;
  const mean = samples.x.map((step, at) => {
    const steps = (samples.x[at + 1] ?? step + 1) - step;
    total += (samples.mean[at] ?? 0) * steps;
    return total;
  });
  return { ...samples, mean };
}

/** Seconds since the first step. */
function elapsed(run: RunMetrics): Series {
  const time = run["time"] ?? NO_SERIES;
  const start = time.mean[0] ?? 0;
  return { ...time, mean: time.mean.map((value) => (value ?? start) - start) };
}

/** The held-out loss as the change since the start, with its standard error as the bar. */
export function heldOut(run: RunMetrics): Series {
  const change = run["validation/change"] ?? NO_SERIES;
  const error = run["validation/error"] ?? NO_SERIES;
  const errorAt = new Map(error.x.map((step, at) => [step, error.mean[at] ?? 0]));
  const end = (sign: number) =>
    change.mean.map((value, at) =>
      value === null ? null : value + sign * (errorAt.get(change.x[at] ?? 0) ?? 0),
    );
  return { x: change.x, mean: change.mean, min: end(-1), max: end(1) };
}

interface MetricsEvent {
  readonly run: string;
  /** The step after which the rows come. */
  readonly from?: number;
  /** Later steps are void. */
  readonly reset?: number;
  readonly rows?: Metrics["series"];
  /** Too many rows for an event. */
  readonly buckets?: boolean;
}

interface State {
  readonly runs: ReadonlyMap<string, RunMetrics>;
}

/** The last step that is known of a run. */
function lastStep(run: RunMetrics): number {
  return Math.max(0, ...Object.values(run).map(({ x }) => x[x.length - 1] ?? 0));
}

/** The metrics of the runs that are shown. */
export class MetricsStore {
  readonly store = new Store<State>({ runs: new Map() });
  private readonly loading = new Set<string>();

  constructor(private readonly api: StudioApi) {}

  /** Load the metrics of runs that are not there yet. */
  async load(ids: readonly string[], again = false): Promise<void> {
    await Promise.all(ids.map((id) => this.loadOne(id, again)));
  }

  private async loadOne(id: string, again: boolean): Promise<void> {
    if (this.loading.has(id) || (!again && this.store.get().runs.has(id))) return;
    this.loading.add(id);
    try {
      this.set(id, fromServer((await this.api.metrics(id, { points: POINTS })).series));
    } finally {
      this.loading.delete(id);
    }
  }

  onEvent({ type, data }: ServerEvent): void {
    const known = this.store.get().runs;
    if (type === "hello" && data["resumed"] === false) this.reload([...known.keys()]);
    if (type !== "metrics") return;
    const { run, reset, rows, buckets, from = 0 } = data as unknown as MetricsEvent;
    const before = known.get(run);
    if (!before) return;
    // Rows that came between the load and the first event are missing.
    const isBehind = reset === undefined && from > lastStep(before);
    if (buckets || isBehind) {
      this.reload([run]);
      return;
    }
    const kept = typeof reset === "number" ? cut(before, reset + 1) : before;
    this.set(run, rows ? add(kept, fromServer(rows)) : kept);
  }

  private reload(ids: readonly string[]): void {
    // A request that fails is shown by the one that follows.
    this.load(ids, true).catch(() => {});
  }

  private set(id: string, metrics: RunMetrics): void {
    this.store.set({ runs: new Map(this.store.get().runs).set(id, metrics) });
  }
}
