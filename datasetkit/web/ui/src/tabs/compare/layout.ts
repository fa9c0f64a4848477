/** The table that a grid is shown as: a column for each LoRA, "without" first, a row for the rest. */

import { serverText } from "../../i18n";
import type { Cell, Grid } from "./shapes";

/** Axes whose values are LoRAs, most telling first. */
const LORA_AXES = ["epoch", "lora", "weight", "unet-weight", "text-weight"];

/** The value that is the base model alone. */
export const WITHOUT = "without";

export interface Column {
  /** Index along the axis of the columns. */
  readonly index: number;
  readonly label: string;
  readonly without: boolean;
}

export interface Row {
  readonly key: string;
  /** Index along each axis; -1 for the axis of the columns. */
  readonly at: readonly number[];
  /** The value on each of the other axes. */
  readonly labels: readonly string[];
}

export interface Table {
  readonly columnAxis: string;
  readonly rowAxes: readonly string[];
  readonly columns: readonly Column[];
  readonly rows: readonly Row[];
  /** The cell of a row and a column; undefined where none was drawn. */
  cell(row: number, column: number): Cell | undefined;
}

/** The number of the axis that changes the LoRA, else of the first. */
export function columnAxis(grid: Pick<Grid, "axes">): number {
  for (const name of LORA_AXES) {
    const found = grid.axes.findIndex((axis) => axis.name === name && axis.values.length > 1);
    if (found >= 0) return found;
  }
  return 0;
}

/** Lay a grid out as a table. */
export function tableOf(grid: Pick<Grid, "axes" | "cells">): Table {
  const across = columnAxis(grid);
  const cells = new Map<string, Cell>();
  for (const cell of grid.cells) {
    for (const at of cell.at) cells.set(at.join(), cell);
  }
  const columns = (grid.axes[across]?.values ?? [""]).map((label, index) => ({
    index,
    label,
    without: label === WITHOUT,
  }));
  columns.sort((a, b) => Number(b.without) - Number(a.without) || a.index - b.index);
  const rows = rowsOf(grid, across);
  return {
    columnAxis: grid.axes[across]?.name ?? "",
    rowAxes: grid.axes.filter((_, n) => n !== across).map((axis) => axis.name),
    columns,
    rows,
    cell: (row, column) => {
      const at = rows[row]?.at.map((n) => (n < 0 ? (columns[column]?.index ?? -1) : n));
      return at && cells.get(at.join());
    },
  };
}

/** All combinations of the other axes; the last one changes fastest. */
function rowsOf(grid: Pick<Grid, "axes">, across: number): Row[] {
  let rows: { at: number[]; labels: string[] }[] = [{ at: [], labels: [] }];
  grid.axes.forEach((axis, n) => {
    rows = rows.flatMap(({ at, labels }) =>
      n === across
        ? [{ at: [...at, -1], labels }]
        : axis.values.map((label, value) => ({
            at: [...at, value],
            labels: [...labels, named(axis.name, label)],
          })),
    );
  });
  return rows.map((row) => ({ ...row, key: row.at.join() }));
}

/** A value that says what it is: "seed 1", but "kitsu, smile" for a prompt. */
function named(axis: string, label: string): string {
  return /^-?[\d.]+(x\d+)?$/.test(label) ? `${serverText(axis)} ${label}` : label;
}

/** A column in the page's language; of two runs side by side it begins with the letter of one. */
export function labelText(label: string): string {
  return label.split(" · ").map(serverText).join(" · ");
}

export interface At {
  readonly row: number;
  readonly column: number;
}

/** Move by rows and columns, within the table. */
export function moved(table: Table, at: At, rows: number, columns: number): At {
  const within = (n: number, length: number): number => Math.max(0, Math.min(length - 1, n));
  return {
    row: within(at.row + rows, table.rows.length),
    column: within(at.column + columns, table.columns.length),
  };
}

/** The cells that one key leads to: their images are loaded before they are asked for. */
export function neighbours(table: Table, at: At): readonly Cell[] {
  const around = [
    [0, 1],
    [0, -1],
    [1, 0],
    [-1, 0],
  ] as const;
  const cells = around.map(([rows, columns]) => {
    const next = moved(table, at, rows, columns);
    return table.cell(next.row, next.column);
  });
  const here = table.cell(at.row, at.column);
  return [...new Set(cells)].filter((cell): cell is Cell => cell !== undefined && cell !== here);
}

/** Where to begin: the last column, which is the newest file; the first row. */
export function start(table: Table): At {
  return { row: 0, column: Math.max(0, table.columns.length - 1) };
}
