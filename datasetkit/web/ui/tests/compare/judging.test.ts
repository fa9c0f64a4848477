import { describe, expect, it } from "vitest";
import { blindLabels, isJudged, letter, shuffled } from "../../src/tabs/compare/blind";
import { tableOf } from "../../src/tabs/compare/layout";
import { cellsOfColumn, countMarks, countsText } from "../../src/tabs/compare/marks";
import { EPOCHS, gridOf, PROMPTS } from "./fixtures";

const grid = gridOf([EPOCHS, PROMPTS]);
const table = tableOf(grid);

describe("blind", () => {
  it("keeps every column once, and the base model first", () => {
    for (let seed = 0; seed < 50; seed++) {
      const order = shuffled(table.columns, seed);
      expect(order[0]).toBe(0);
      expect([...order].sort()).toEqual([0, 1, 2, 3]);
    }
  });

  it("gives every order, and the same one for the same seed", () => {
    const orders = Array.from({ length: 200 }, (_, seed) => shuffled(table.columns, seed).join());
    expect(new Set(orders).size).toBe(6);
    expect(shuffled(table.columns, 7)).toEqual(shuffled(table.columns, 7));
  });

  it("shows letters instead of epochs", () => {
    expect(blindLabels(table.columns)).toEqual(["without", "A", "B", "C"]);
    expect([0, 25, 26, 27, 52].map(letter)).toEqual(["A", "Z", "AA", "AB", "BA"]);
  });

  it("is judged when each LoRA has a mark", () => {
    const marks = { 1: 5, 2: 3 };
    expect(isJudged(countMarks(table, marks), table.columns)).toBe(false);
    expect(isJudged(countMarks(table, { ...marks, 7: 1 }), table.columns)).toBe(true);
  });
});

describe("marks", () => {
  it("are counted, not added up", () => {
    const counts = countMarks(table, { 1: 5, 5: 5, 2: 1, 0: 9 });
    expect(counts.map(countsText)).toEqual(["", "5 ×2", "1 ×1", ""]);
  });

  it("of an image at two positions count once", () => {
    const at = [
      [0, 0],
      [0, 1],
    ];
    const shared = tableOf({ ...grid, cells: [{ ...grid.cells[0]!, at }] });
    expect(countMarks(shared, { 0: 4 })[0]).toEqual([0, 0, 0, 1, 0]);
  });

  it("of a column do not replace those of its images", () => {
    expect(cellsOfColumn(table, 1, { 5: 2 })).toEqual([1]);
    expect(cellsOfColumn(table, 1, { 5: 0 })).toEqual([1, 5]);
  });
});
