import { describe, expect, test } from "vitest";
import {
  commonAspect,
  layGrid,
  type Move,
  scrolledTo,
  scrollRatio,
  step,
  MAX_HEIGHT,
} from "../src/geometry";

const SHAPE = { minWidth: 148, aspect: 1, gap: 8, label: 22 };

describe("layGrid", () => {
  test("columns fill the width and are never below the minimum width", () => {
    for (let width = 148; width < 3000; width += 37) {
      const grid = layGrid(width, 1000, SHAPE);
      expect(grid.cellWidth).toBeGreaterThanOrEqual(148);
      expect(grid.columns * grid.cellWidth + (grid.columns - 1) * SHAPE.gap).toBeCloseTo(width);
    }
  });

  test("a window narrower than a cell still has one column", () => {
    expect(layGrid(90, 3, SHAPE)).toMatchObject({ columns: 1, rows: 3, cellWidth: 90 });
  });

  test("no images need no rows", () => {
    expect(layGrid(800, 0, SHAPE).rows).toBe(0);
  });
});

describe("commonAspect", () => {
  test("is the median", () => {
    expect(commonAspect([800, 1000, 1200], [1000, 1000, 1000])).toBe(1);
  });

  test("stays within limits", () => {
    expect(commonAspect([1], [20_000])).toBe(0.7);
    expect(commonAspect([20_000], [1])).toBe(1.5);
  });

  test("images without a size are ignored", () => {
    expect(commonAspect([0, 0, 900], [0, 10, 1000])).toBe(0.9);
    expect(commonAspect([], [])).toBe(1);
  });
});

describe("scrollRatio", () => {
  test("is 1 until the grid is taller than browsers can draw", () => {
    expect(scrollRatio(MAX_HEIGHT, 800)).toBe(1);
  });

  test("the end of the scroll bar reaches the end of a million rows", () => {
    const logical = 1_000_000 * 178;
    const ratio = scrollRatio(logical, 800);
    expect((MAX_HEIGHT - 800) * ratio).toBeCloseTo(logical - 800, 3);
  });
});

describe("step", () => {
  const moves: readonly Move[] = [
    "left",
    "right",
    "up",
    "down",
    "home",
    "end",
    "page-up",
    "page-down",
  ];

  test("never leaves the grid", () => {
    for (const count of [1, 2, 5, 6, 23]) {
      for (let at = 0; at < count; at++) {
        for (const move of moves) {
          const to = step(at, move, count, 5, 3);
          expect(to).toBeGreaterThanOrEqual(0);
          expect(to).toBeLessThan(count);
        }
      }
    }
  });

  test("down from the row above a short last row goes to the last image, and stays there", () => {
    expect(step(8, "down", 12, 5, 3)).toBe(11);
    expect(step(11, "down", 12, 5, 3)).toBe(11);
  });

  test("up in the first row does nothing", () => {
    expect(step(3, "up", 12, 5, 3)).toBe(3);
  });

  test("an empty grid has no cursor", () => {
    expect(step(0, "right", 0, 5, 3)).toBe(-1);
  });
});

test("the grid scrolls no further than needed to show a row", () => {
  expect(scrolledTo(100, 500, 200, 300, 10)).toBe(100);
  expect(scrolledTo(100, 500, 50, 90, 10)).toBe(40);
  expect(scrolledTo(100, 500, 5, 45, 10)).toBe(0);
  expect(scrolledTo(100, 500, 580, 620, 10)).toBe(130);
});
