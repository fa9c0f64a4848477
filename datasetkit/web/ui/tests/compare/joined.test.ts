import { expect, test } from "vitest";
import { cellUrl } from "../../src/tabs/compare/api";
import { differingOptions, joinedGrid, originOf } from "../../src/tabs/compare/joined";
import { tableOf } from "../../src/tabs/compare/layout";
import { EPOCHS, gridOf, PROMPTS, SEEDS } from "./fixtures";

const FIRST = gridOf([EPOCHS, PROMPTS], { options: { network_dim: 16, output_name: "a" } });
const SECOND = gridOf(
  [
    { name: "prompt", values: ["frown", "smile", "hat"] },
    { name: "epoch", values: ["epoch 2", "epoch 6"] },
  ],
  { id: "b", marks: { "1": 4 }, options: { network_dim: 32, output_name: "b" } },
);

test("equal epochs of two runs are neighbours, behind the base model", () => {
  const table = tableOf(joinedGrid(FIRST, SECOND));
  expect(table.columns.map((column) => column.label)).toEqual([
    "without", "A · epoch 2", "B · epoch 2", "A · epoch 4", "A · last", "B · epoch 6",
  ]); // prettier-ignore
  expect(table.rows.map((row) => row.labels)).toEqual([["smile"], ["frown"], ["hat"]]);
});

test("a cell stands in the row of its prompt, whatever the order of the other grid's axes", () => {
  const joined = joinedGrid(FIRST, SECOND);
  const table = tableOf(joined);
  const smile = table.cell(0, 2)!;
  // In the second grid the prompt is the first axis: smile at epoch 2 is its cell 1.
  expect(originOf(joined, smile)).toEqual({ grid: "b", n: 1 });
  expect(cellUrl(joined.id, smile)).toBe("cell/b/1?v=1");
  expect(joined.marks[String(smile.n)]).toBe(4);
  expect(originOf(joined, table.cell(0, 1)!)).toEqual({ grid: "a", n: 1 });
  expect(table.cell(2, 1)).toBeUndefined();
});

test("all cells have numbers of their own, and the base model is drawn once", () => {
  const joined = joinedGrid(FIRST, gridOf([EPOCHS, PROMPTS, SEEDS], { id: "b" }));
  expect(new Set(joined.cells.map((cell) => cell.n)).size).toBe(joined.cells.length);
  const bases = joined.cells.filter((cell) => cell.file === null);
  expect(bases.every((cell) => originOf(joined, cell).grid === "a")).toBe(true);
});

test("only options of the training differ", () => {
  expect(
    differingOptions(FIRST, SECOND).map(({ name, left, right }) => [name, left, right]),
  ).toEqual([["network_dim", "16", "32"]]);
});
