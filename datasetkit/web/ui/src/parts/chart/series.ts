/** Series of a chart: what arrives from the server, joined, cut back and smoothed. */

/** One value over the steps of a run. A row may be a bucket of several steps. */
export interface Series {
  readonly x: readonly number[];
  readonly mean: readonly (number | null)[];
  readonly min: readonly (number | null)[];
  readonly max: readonly (number | null)[];
}

export const NO_SERIES: Series = { x: [], mean: [], min: [], max: [] };
/** A series with more rows than this is made coarser. */
export const MAX_ROWS = 4000;

/** Add rows behind a series. Rows of steps that it has already are left out. */
export function append(series: Series, more: Series): Series {
  const last = series.x[series.x.length - 1] ?? -Infinity;
  const from = more.x.findIndex((x) => x > last);
  if (from < 0) return series;
  const joined: Series = {
    x: [...series.x, ...more.x.slice(from)],
    mean: [...series.mean, ...more.mean.slice(from)],
    min: [...series.min, ...more.min.slice(from)],
    max: [...series.max, ...more.max.slice(from)],
  };
  return joined.x.length > MAX_ROWS ? coarser(joined) : joined;
}

/** Leave out all rows from a step on: a resumed run trains them again. */
export function cutFrom(series: Series, step: number): Series {
  const end = series.x.findIndex((x) => x >= step);
  if (end < 0) return series;
  return {
    x: series.x.slice(0, end),
    mean: series.mean.slice(0, end),
    min: series.min.slice(0, end),
    max: series.max.slice(0, end),
  };
}

/** Join each two rows. */
export function coarser(series: Series): Series {
  const x: number[] = [];
  const mean: (number | null)[] = [];
  const min: (number | null)[] = [];
  const max: (number | null)[] = [];
  for (let at = 0; at < series.x.length; at += 2) {
    const both = [at, at + 1].filter((row) => row < series.x.length);
    x.push(series.x[both[both.length - 1] ?? at] ?? 0);
    mean.push(average(both.map((row) => series.mean[row] ?? null)));
    min.push(
      extreme(
        both.map((row) => series.min[row] ?? series.mean[row] ?? null),
        Math.min,
      ),
    );
    max.push(
      extreme(
        both.map((row) => series.max[row] ?? series.mean[row] ?? null),
        Math.max,
      ),
    );
  }
  return { x, mean, min, max };
}

function numbers(values: readonly (number | null)[]): readonly number[] {
  return values.filter((value) => value !== null);
}

function average(values: readonly (number | null)[]): number | null {
  const known = numbers(values);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

function extreme(
  values: readonly (number | null)[],
  choose: (...values: number[]) => number,
): number | null {
  const known = numbers(values);
  return known.length ? choose(...known) : null;
}

/**
 * The exponential moving average, without the bias towards the first value. weight: from 0 (as it
 * is) to below 1, of one step; a row of several steps moves it as far as that many steps.
 */
export function smooth(
  x: readonly number[],
  values: readonly (number | null)[],
  weight: number,
): readonly (number | null)[] {
  if (weight <= 0) return values;
  let sum = 0;
  let total = 0;
  let before: number | null = null;
  return values.map((value, at) => {
    if (value === null || !Number.isFinite(value)) return null;
    const step = x[at] ?? at;
    const kept = weight ** Math.max(1, before === null ? 1 : step - before);
    before = step;
    sum = kept * sum + (1 - kept) * value;
    total = kept * total + (1 - kept);
    return sum / total;
  });
}

/** Whether the end of a series falls, rises or stays, by the means of its last two quarters. */
export function trend(values: readonly (number | null)[]): "falling" | "rising" | "steady" {
  const known = numbers(values);
  const quarter = Math.floor(known.length / 4);
  if (quarter < 2) return "steady";
  const late = average(known.slice(-quarter)) ?? 0;
  const early = average(known.slice(-2 * quarter, -quarter)) ?? 0;
  const scale = Math.max(Math.abs(late), Math.abs(early), 1e-12);
  if (Math.abs(late - early) / scale < 0.01) return "steady";
  return late < early ? "falling" : "rising";
}

/** The least and greatest value to show, with a margin; outliers of single steps do not count. */
export function valueRange(all: readonly (readonly (number | null)[])[]): [number, number] {
  const known = all.flatMap((values) => numbers(values)).filter(Number.isFinite);
  if (known.length === 0) return [0, 1];
  const sorted = known.sort((a, b) => a - b);
  const low = sorted[Math.floor((sorted.length - 1) * 0.005)] ?? 0;
  const high = sorted[Math.ceil((sorted.length - 1) * 0.995)] ?? 1;
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}
