/** Loss, rates and held-out loss of the runs that are shown. */

import { useMemo } from "react";
import { duration, number, t } from "../../i18n";
import { Chart, type Line, shortNumber } from "../../parts/chart/Chart";
import { type Series, smooth, trend } from "../../parts/chart/series";
import { numberText } from "../../parts/options";
import { useNarrow } from "../../parts/WorkArea";
import { Store, useStore } from "../../store";
import type { Run } from "../../studio/api";
import {
  heldOut,
  lookOf,
  type MetricsStore,
  over,
  rateNames,
  type RunMetrics,
  type XAxis,
} from "./metrics";

interface View {
  readonly smoothing: number;
  readonly x: XAxis;
  readonly table: boolean;
  /** Beside the loss, where there is room for one; null: held-out loss where there is any. */
  readonly beside: "rates" | "heldOut" | null;
}

const view = new Store<View>({ smoothing: 0.9, x: "step", table: false, beside: null });
const SMOOTHINGS = [0, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995];
const X_AXES: readonly XAxis[] = ["step", "samples", "time"];

interface ChartsProps {
  readonly runs: readonly Run[];
  readonly metrics: MetricsStore;
}

export function Charts({ runs, metrics }: ChartsProps) {
  const { smoothing, x, table, beside: chosen } = useStore(view, (state) => state);
  const loaded = useStore(metrics.store, (state) => state.runs);
  const narrow = useNarrow();
  const [first] = runs;
  const own = first ? loaded.get(first.id) : undefined;

  const loss = useLines(runs, loaded, (run) => over(run, "loss", x), x);
  const rates = useMemo(() => rateLines(own, x), [own, x]);
  const held = useLines(runs, loaded, heldOut, "held-out");
  const formatX = x === "time" ? duration : (value: number) => number(Math.round(value));
  const xLabel = t(`watch.x.${x}`);
  const hasHeldOut = held.some((line) => line.series.x.length > 0);
  const beside = chosen ?? (hasHeldOut ? "heldOut" : "rates");

  return (
    <div className="charts">
      <div className="chart-tools">
        <label>
          {t("watch.smooth")}{" "}
          <input
            type="range"
            min={0}
            max={SMOOTHINGS.length - 1}
            value={SMOOTHINGS.indexOf(smoothing)}
            aria-valuetext={numberText(smoothing)}
            onChange={(event) =>
              view.set({ smoothing: SMOOTHINGS[Number(event.target.value)] ?? 0 })
            }
          />
          <output>{number(smoothing, { maximumFractionDigits: 3 })}</output>
        </label>
        <label>
          {t("watch.x")}{" "}
          <select value={x} onChange={(event) => view.set({ x: event.target.value as XAxis })}>
            {X_AXES.map((axis) => (
              <option key={axis} value={axis}>
                {t(`watch.x.${axis}`)}
              </option>
            ))}
          </select>
        </label>
        <span className="spacer" />
        {narrow ? (
          <span className="segments" role="group" aria-label={t("watch.rates")}>
            {(["heldOut", "rates"] as const).map((name) => (
              <button
                key={name}
                type="button"
                aria-pressed={beside === name}
                onClick={() => view.set({ beside: name })}
              >
                {t(`watch.${name}`)}
              </button>
            ))}
          </span>
        ) : null}
        <button type="button" aria-pressed={table} onClick={() => view.set({ table: !table })}>
          {t("watch.table")}
        </button>
      </div>
      <div className="chart-row">
        {own && (own["loss"]?.x.length ?? 0) === 0 ? (
          <NoChart title={t("watch.loss")} text={t("watch.noData")} />
        ) : (
          <Chart
            title={t("watch.loss")}
            summary={summaryOf(loss[0]?.series, smoothing)}
            lines={loss}
            xLabel={xLabel}
            formatX={formatX}
            smoothing={smoothing}
            band
            table={table}
          />
        )}
        {!narrow || beside === "rates" ? (
          rates.some((line) => line.series.x.length > 0) ? (
            <Chart
              title={t("watch.rates")}
              summary={summaryOf(rates[0]?.series, 0)}
              lines={rates}
              xLabel={xLabel}
              formatX={formatX}
              format={rateText}
              table={table}
            />
          ) : (
            <NoChart title={t("watch.rates")} text={t("watch.noData")} />
          )
        ) : null}
        {!narrow || beside === "heldOut" ? (
          hasHeldOut ? (
            <Chart
              title={t("watch.heldOut")}
              summary={summaryOf(held[0]?.series, 0)}
              lines={held}
              xLabel={t("watch.x.step")}
              points
              table={table}
            />
          ) : (
            <NoChart title={t("watch.heldOut")} text={t("watch.heldOut.none")} />
          )
        ) : null}
      </div>
    </div>
  );
}

function NoChart({ title, text }: { readonly title: string; readonly text: string }) {
  return (
    <section className="chart">
      <header>
        <h3>{title}</h3>
      </header>
      <p className="chart-none muted">{text}</p>
    </section>
  );
}

/** Lines that stay the same objects while their metrics do. */
function useLines(
  runs: readonly Run[],
  loaded: ReadonlyMap<string, RunMetrics>,
  select: (run: RunMetrics) => Series,
  key: string,
): readonly Line[] {
  const sources = runs.map((run) => loaded.get(run.id));
  // eslint-disable-next-line react-hooks/exhaustive-deps
  return useMemo(
    () =>
      runs.map((run, at) => {
        const metrics = sources[at];
        return {
          id: run.id,
          label: run.name,
          look: at + 1,
          series: metrics ? select(metrics) : { x: [], mean: [], min: [], max: [] },
        };
      }),
    [key, runs.map((run) => run.id).join(" "), ...pad(sources)],
  );
}

/** React wants as many dependencies each time. */
function pad(sources: readonly (RunMetrics | undefined)[]): readonly (RunMetrics | undefined)[] {
  return Array.from({ length: 8 }, (_, at) => sources[at]);
}

function rateLines(run: RunMetrics | undefined, x: XAxis): readonly Line[] {
  if (!run) return [];
  return rateNames(run).map((name) => ({
    id: name,
    label: name.slice(3),
    look: lookOf(name),
    series: over(run, name, x),
  }));
}

function rateText(value: number): string {
  return numberText(Number(value.toPrecision(3)));
}

function summaryOf(series: Series | undefined, smoothing: number): string {
  if (!series || series.x.length === 0) return t("watch.noData");
  const smoothed = smooth(series.x, series.mean, smoothing);
  return t("watch.summary", {
    value: shortNumber(smoothed[smoothed.length - 1] ?? 0),
    step: shortNumber(series.x[series.x.length - 1] ?? 0),
    trend: t(`watch.trend.${trend(smoothed)}`),
  });
}
