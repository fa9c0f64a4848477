import { describe, expect, it } from "vitest";
import { columnAxis, moved, neighbours, start, tableOf } from "../../src/tabs/compare/layout";
import { EPOCHS, gridOf, PROMPTS, SEEDS } from "./fixtures";

describe("the table of a grid", () => {
  it("has the LoRAs as columns, whichever axis they are on", () => {
    for (const axes of [
      [EPOCHS, PROMPTS],
      [PROMPTS, EPOCHS],
      [SEEDS, PROMPTS, EPOCHS],
    ]) {
      const table = tableOf(gridOf(axes));
      expect(table.columns.map((column) => column.label)).toEqual(EPOCHS.values);
      expect(table.columnAxis).toBe("epoch");
    }
  });

  it("puts the base model first, also where the grid has it elsewhere", () => {
    const values = ["epoch 2", "epoch 4", "without"];
    const table = tableOf(gridOf([{ name: "epoch", values }]));
    expect(table.columns.map((column) => column.label)).toEqual(["without", "epoch 2", "epoch 4"]);
    expect(table.cell(0, 0)?.n).toBe(2);
  });

  it("has a row for each combination of the other axes", () => {
    const table = tableOf(gridOf([EPOCHS, PROMPTS, SEEDS]));
    expect(table.rowAxes).toEqual(["prompt", "seed"]);
    expect(table.rows.map((row) => row.labels)).toEqual([
      ["smile", "seed 1"],
      ["smile", "seed 2"],
      ["frown", "seed 1"],
      ["frown", "seed 2"],
    ]);
    expect(table.cell(1, 2)?.settings).toEqual({ text: "prompt 0", seed: 1 });
  });

  it("shows one image at all its positions", () => {
    const grid = gridOf([EPOCHS, { name: "weight", values: ["0.8", "1"] }]);
    const shared = {
      ...grid.cells[0]!,
      at: [
        [0, 0],
        [0, 1],
      ],
    };
    const others = grid.cells.filter((cell) => cell.n !== 0 && cell.n !== 4);
    const table = tableOf({ ...grid, cells: [shared, ...others] });
    expect(table.cell(0, 0)?.n).toBe(table.cell(1, 0)?.n);
  });

  it("compares weights of a single file", () => {
    expect(columnAxis(gridOf([PROMPTS, { name: "weight", values: ["without", "1"] }]))).toBe(1);
    expect(columnAxis(gridOf([{ name: "epoch", values: ["last"] }, SEEDS]))).toBe(0);
  });
});

describe("moving", () => {
  const table = tableOf(gridOf([EPOCHS, PROMPTS]));

  it("stops at the edges", () => {
    expect(moved(table, { row: 0, column: 0 }, -1, -1)).toEqual({ row: 0, column: 0 });
    expect(moved(table, { row: 1, column: 3 }, 1, 1)).toEqual({ row: 1, column: 3 });
  });

  it("starts at the newest file", () => {
    expect(start(table)).toEqual({ row: 0, column: 3 });
  });

  it("knows the images that one key leads to, and not the one that is shown", () => {
    const numbers = (row: number, column: number) =>
      neighbours(table, { row, column }).map((cell) => cell.n);
    expect(numbers(0, 1)).toEqual([2, 0, 5]);
    expect(numbers(1, 3)).toEqual([6, 3]);
  });
});
