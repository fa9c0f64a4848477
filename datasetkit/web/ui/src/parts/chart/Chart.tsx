/** A chart of one value of one or several runs, by uPlot: lines that differ in color and dash, a
 * band from the least to the greatest value, a cursor that keys move, and the numbers as a table. */

import { useEffect, useId, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { number, t } from "../../i18n";
import { useStore } from "../../store";
import { themeStore } from "../../theme";
import { type Series, smooth, valueRange } from "./series";

export interface Line {
  readonly id: string;
  readonly label: string;
  /** From 1 to 8: a color and a dash that belong together. */
  readonly look: number;
  readonly series: Series;
}

interface ChartProps {
  readonly title: string;
  /** What the chart says, in a sentence. */
  readonly summary: string;
  readonly lines: readonly Line[];
  readonly xLabel: string;
  /** From 0 to below 1. */
  readonly smoothing?: number;
  /** Fill from the least to the greatest value, where there is one line. */
  readonly band?: boolean;
  /** Show points with error bars from min to max. */
  readonly points?: boolean;
  readonly format?: (value: number) => string;
  readonly formatX?: (value: number) => string;
  readonly table: boolean;
}

const DASHES: readonly (readonly number[])[] = [
  [],
  [6, 4],
  [2, 3],
  [10, 3, 2, 3],
  [12, 5],
  [4, 2],
  [1, 3],
  [8, 3, 2, 3, 2, 3],
];
/** Columns of a line: smoothed, as it is, least, greatest. */
const COLUMNS = 4;
const TABLE_ROWS = 100;

export function shortNumber(value: number): string {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) {
    return value
      .toExponential(2)
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  }
  return number(value, { maximumSignificantDigits: 4 });
}

export function Chart(props: ChartProps) {
  const { title, summary, lines, xLabel, smoothing = 0, table } = props;
  const { format = shortNumber, formatX = (x: number) => number(x) } = props;
  const theme = useStore(themeStore, (state) => state.theme);
  const titleId = useId();
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [cursor, setCursor] = useState<number | null>(null);
  const data = useMemo(() => align(lines, smoothing), [lines, smoothing]);
  const latest = useRef({ data, format, formatX });
  latest.current = { data, format, formatX };
  // What needs a new plot; new data does not.
  const shape = `${theme} ${lines.map((line) => `${line.id}:${line.look}`).join(" ")} ${
    smoothing > 0
  } ${props.band} ${props.points}`;

  useEffect(() => {
    const element = holder.current;
    if (!element || table) return;
    const made = new uPlot(
      options(props, element, setCursor, latest),
      latest.current.data as uPlot.AlignedData,
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize(sizeOf(element)));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
    // The shape stands for the props that matter here.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape, table]);
  useEffect(() => {
    const current = plot.current;
    if (!current || current.data === (data as unknown as uPlot.AlignedData)) return;
    // While a part is zoomed in, new data must not move it.
    const { min, max } = current.scales["x"] ?? {};
    const xs = current.data[0];
    const zoomed = min !== xs[0] || max !== xs[xs.length - 1];
    current.setData(data as uPlot.AlignedData, !zoomed || xs.length < 2);
    if (zoomed && xs.length >= 2) current.redraw();
  }, [data]);

  const xs = data[0] ?? [];
  const at = cursor ?? xs.length - 1;
  const readings = lines.map((line, index) => ({
    line,
    value: data[1 + index * COLUMNS]?.[at] ?? null,
  }));
  const readout = `${xLabel} ${formatX(xs[at] ?? 0)}: ${readings
    .filter(({ value }) => value !== null)
    .map(({ line, value }) => `${line.label} ${format(value ?? 0)}`)
    .join(", ")}`;
  const move = (to: number) => {
    const next = Math.max(0, Math.min(xs.length - 1, to));
    const current = plot.current;
    setCursor(next);
    current?.setCursor({ left: current.valToPos(xs[next] ?? 0, "x"), top: 10 });
  };

  return (
    <section className="chart" aria-labelledby={titleId}>
      <header>
        <h3 id={titleId}>{title}</h3>
        {table || xs.length === 0 ? null : (
          <p className="chart-legend" aria-hidden="true">
            {xs.length > 0 ? (
              <span className="muted">
                {xLabel} {formatX(xs[at] ?? 0)}
              </span>
            ) : null}
            {readings.map(({ line, value }) => (
              <span key={line.id} className="chart-key">
                <LineSample look={line.look} />
                {lines.length > 1 ? line.label : null} <b>{value === null ? "–" : format(value)}</b>
              </span>
            ))}
          </p>
        )}
      </header>
      {table ? (
        <DataTable {...props} data={data} format={format} formatX={formatX} />
      ) : (
        <div
          className="chart-plot"
          ref={holder}
          role="slider"
          tabIndex={0}
          aria-label={`${title}. ${summary}`}
          aria-valuemin={xs[0] ?? 0}
          aria-valuemax={xs[xs.length - 1] ?? 0}
          aria-valuenow={xs[at] ?? 0}
          aria-valuetext={xs.length ? readout : t("none")}
          onKeyDown={(event) => {
            const by = event.shiftKey ? Math.max(1, Math.round(xs.length / 20)) : 1;
            if (event.key === "ArrowLeft") move(at - by);
            else if (event.key === "ArrowRight") move(at + by);
            else if (event.key === "Home") move(0);
            else if (event.key === "End") move(xs.length - 1);
            else return;
            event.preventDefault();
            event.stopPropagation();
          }}
        />
      )}
    </section>
  );
}

export function LineSample({ look }: { readonly look: number }) {
  return (
    <svg
      className={`line-sample look-${look}`}
      width="20"
      height="8"
      viewBox="0 0 20 8"
      aria-hidden
    >
      <path d="M0 4h20" strokeDasharray={DASHES[look - 1]?.join(" ")} />
    </svg>
  );
}

/** One table of all lines: x, and four columns for each line. */
function align(lines: readonly Line[], weight: number): (number | null)[][] {
  const tables = lines
    .filter((line) => line.series.x.length > 0)
    .map(({ series }) => [
      series.x,
      smooth(series.x, series.mean, weight),
      series.mean,
      series.min,
      series.max,
    ]);
  if (tables.length === 0) return [[], ...lines.flatMap(() => [[], [], [], []])];
  if (tables.length === 1 && lines.length === 1) return tables[0] as (number | null)[][];
  const filled = lines.map(({ series }) => [
    series.x,
    smooth(series.x, series.mean, weight),
    series.mean,
    series.min,
    series.max,
  ]);
  return uPlot.join(filled as unknown as uPlot.AlignedData[]) as unknown as (number | null)[][];
}

function sizeOf(element: HTMLElement): { width: number; height: number } {
  return { width: Math.max(80, element.clientWidth), height: Math.max(60, element.clientHeight) };
}

interface Latest {
  readonly current: {
    readonly data: readonly (readonly (number | null)[])[];
    readonly format: (value: number) => string;
    readonly formatX: (value: number) => string;
  };
}

function options(
  { lines, smoothing = 0, band = false, points = false }: ChartProps,
  element: HTMLElement,
  setCursor: (at: number | null) => void,
  latest: Latest,
): uPlot.Options {
  const style = getComputedStyle(element);
  const color = (name: string) => style.getPropertyValue(name).trim();
  const font = `11px ${style.fontFamily}`;
  const axis: uPlot.Axis = {
    stroke: color("--quiet"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font,
  };
  const hidden = (): uPlot.Series => ({
    show: true,
    stroke: "transparent",
    width: 0,
    points: { show: false },
  });
  const series: uPlot.Series[] = [{}];
  for (const line of lines) {
    const stroke = color(`--run-${line.look}`);
    const dash = [...(DASHES[line.look - 1] ?? [])];
    series.push(
      {
        stroke,
        width: 1.75,
        dash,
        spanGaps: true,
        points: points ? { show: true, size: 7, fill: stroke } : { show: false },
      },
      // Of one line, what it was made of shows behind it; of several that would be noise.
      smoothing > 0 && lines.length === 1
        ? { stroke, width: 1, alpha: 0.22, spanGaps: true, points: { show: false } }
        : hidden(),
      hidden(),
      hidden(),
    );
  }
  return {
    ...sizeOf(element),
    series,
    ...(band && lines.length === 1 ? { bands: [{ series: [4, 3], fill: color("--band") }] } : {}),
    scales: {
      x: { time: false },
      y: {
        range: (plot) => {
          const shown = plot.data.filter(
            (_, at) => at > 0 && isShown(at, smoothing > 0 && lines.length === 1, points),
          );
          return valueRange(shown as unknown as (number | null)[][]);
        },
      },
    },
    axes: [
      {
        ...axis,
        size: 26,
        gap: 4,
        values: (_, ticks) =>
          ticks.map((tick) => (Number.isInteger(tick) ? latest.current.formatX(tick) : "")),
      },
      {
        ...axis,
        size: 52,
        gap: 4,
        values: (_, ticks) => ticks.map((tick) => latest.current.format(tick)),
      },
    ],
    legend: { show: false },
    padding: [10, 12, 0, 0],
    cursor: {
      sync: { key: "watch" },
      drag: { x: true, y: false },
      points: { size: 7 },
      y: false,
    },
    hooks: {
      setCursor: [(plot) => setCursor(plot.cursor.idx ?? null)],
      ...(points ? { draw: [(plot: uPlot) => drawErrors(plot, lines, color)] } : {}),
    },
  };
}

/** The range follows the smoothed lines and what is faintly behind them; of points, the bars. */
function isShown(at: number, withRaw: boolean, points: boolean): boolean {
  const column = (at - 1) % COLUMNS;
  return points || column === 0 || (withRaw && column === 1);
}

function drawErrors(plot: uPlot, lines: readonly Line[], color: (name: string) => string): void {
  const { ctx } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.lineWidth = 1.25 * ratio;
  lines.forEach((line, index) => {
    ctx.strokeStyle = color(`--run-${line.look}`);
    const low = plot.data[3 + index * COLUMNS] ?? [];
    const high = plot.data[4 + index * COLUMNS] ?? [];
    plot.data[0].forEach((value, at) => {
      const from = low[at];
      const to = high[at];
      if (from == null || to == null) return;
      const x = Math.round(plot.valToPos(value, "x", true));
      ctx.beginPath();
      for (const end of [from, to]) {
        const y = plot.valToPos(end, "y", true);
        ctx.moveTo(x - 3 * ratio, y);
        ctx.lineTo(x + 3 * ratio, y);
      }
      ctx.moveTo(x, plot.valToPos(from, "y", true));
      ctx.lineTo(x, plot.valToPos(to, "y", true));
      ctx.stroke();
    });
  });
  ctx.restore();
}

interface DataTableProps extends ChartProps {
  readonly data: readonly (readonly (number | null)[])[];
  readonly format: (value: number) => string;
  readonly formatX: (value: number) => string;
}

/** At most so many rows, evenly chosen, the last one always. */
function DataTable({ title, lines, xLabel, data, format, formatX }: DataTableProps) {
  const xs = data[0] ?? [];
  const every = Math.max(1, Math.ceil(xs.length / TABLE_ROWS));
  const rows = xs.map((_, at) => at).filter((at) => (xs.length - 1 - at) % every === 0);
  return (
    <div className="chart-table" tabIndex={0} role="group" aria-label={title}>
      <table>
        <thead>
          <tr>
            <th scope="col">{xLabel}</th>
            {lines.map((line) => (
              <th key={line.id} scope="col">
                {line.label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={row}>
              <th scope="row">{formatX(xs[row] ?? 0)}</th>
              {lines.map((line, index) => {
                const value = data[1 + index * COLUMNS]?.[row] ?? null;
                return <td key={line.id}>{value === null ? "" : format(value)}</td>;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
