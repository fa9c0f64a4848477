import { expect, test } from "vitest";
import {
  append,
  coarser,
  cutFrom,
  MAX_ROWS,
  NO_SERIES,
  type Series,
  smooth,
  trend,
  valueRange,
} from "../src/parts/chart/series";

function series(x: readonly number[], mean: readonly (number | null)[] = x): Series {
  return { x, mean, min: mean, max: mean };
}

test("new rows come behind, and no step twice", () => {
  const joined = append(series([1, 2, 3]), series([2, 3, 4, 5]));
  expect(joined.x).toEqual([1, 2, 3, 4, 5]);
  expect(append(joined, series([4, 5]))).toBe(joined);
  expect(append(NO_SERIES, series([7])).x).toEqual([7]);
});

test("a resumed run is cut back to where it begins again", () => {
  expect(cutFrom(series([10, 20, 30, 40]), 25).x).toEqual([10, 20]);
  expect(cutFrom(series([10, 20]), 100).x).toEqual([10, 20]);
  expect(cutFrom(series([10, 20]), 0)).toEqual(NO_SERIES);
});

test("a long series stays below a size, and keeps its peaks", () => {
  const x = Array.from({ length: 3 * MAX_ROWS }, (_, at) => at + 1);
  let all = NO_SERIES;
  for (let at = 0; at < x.length; at += 50) {
    const part = x.slice(at, at + 50);
    all = append(
      all,
      series(
        part,
        part.map((step) => (step === 777 ? 99 : 1)),
      ),
    );
  }
  expect(all.x.length).toBeLessThanOrEqual(MAX_ROWS);
  expect(all.x[all.x.length - 1]).toBe(3 * MAX_ROWS);
  expect(Math.max(...all.max.map((value) => value ?? 0))).toBe(99);
  expect(Math.min(...all.min.map((value) => value ?? 0))).toBe(1);
});

test("a row without a value counts neither in a mean nor in the extremes", () => {
  const joined = coarser(series([1, 2, 3, 4, 5], [null, 4, null, null, 2]));
  expect(joined).toEqual({
    x: [2, 4, 5],
    mean: [4, null, 2],
    min: [4, null, 2],
    max: [4, null, 2],
  });
});

test("smoothing has no bias: a constant stays, and the first value is the first value", () => {
  for (const value of smooth([1, 2, 3], [5, 5, 5], 0.98)) expect(value).toBeCloseTo(5, 12);
  expect(smooth([1, 2], [3, 9], 0.9)[0]).toBeCloseTo(3, 12);
  expect(smooth([1, 2], [3, 9], 0)).toEqual([3, 9]);
});

test("a row of ten steps is smoothed as far as ten rows of one", () => {
  const ones = Array.from({ length: 20 }, (_, at) => at + 1);
  const fine = smooth(
    ones,
    ones.map((step) => (step > 10 ? 1 : 0)),
    0.9,
  );
  const coarse = smooth([10, 20], [0, 1], 0.9);
  // The first row of the coarse series stands for one step: nothing is known of those before.
  expect(coarse[1]).toBeGreaterThan(fine[19] ?? 0);
  expect(coarse[1]).toBeLessThan(1);
});

test("values that are missing stay missing", () => {
  expect(smooth([1, 2, 3], [1, null, 1], 0.5)).toEqual([1, null, 1]);
  expect(smooth([1, 2], [Number.NaN, 1], 0.5)).toEqual([null, 1]);
});

test("the trend of the end", () => {
  const steps = Array.from({ length: 40 }, (_, at) => at);
  expect(trend(steps.map((at) => 1 / (at + 1)))).toBe("falling");
  expect(trend(steps)).toBe("rising");
  expect(trend(steps.map(() => 0.1))).toBe("steady");
  expect(trend([])).toBe("steady");
});

test("the range leaves room, and one wild step does not flatten the rest", () => {
  const values = [...Array.from({ length: 999 }, (_, at) => 0.1 + at / 9990), 50];
  const [low, high] = valueRange([values]);
  expect(low).toBeLessThan(0.1);
  expect(high).toBeLessThan(1);
  expect(valueRange([[]])).toEqual([0, 1]);
  const [same, above] = valueRange([[2, 2]]);
  expect(same).toBeLessThan(above);
});
