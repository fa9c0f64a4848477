/** The preview images of a run: the server offers them as a grid of epochs and prompts. */

import type { Http } from "../../http";
import { loadGrid, loadGrids } from "../compare/api";
import type { Cell, Grid } from "../compare/shapes";

export interface PreviewTable {
  readonly grid: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  /** By row and column. */
  cell(row: number, column: number): Cell | null;
}

/** Load the previews of a run; null where it has none. */
export async function loadPreviews(http: Http, run: string): Promise<PreviewTable | null> {
  const { grids } = await loadGrids(http);
  const entry = grids.find((one) => one.kind === "previews" && one.run === run);
  if (!entry) return null;
  return tableOf(await loadGrid(http, entry.id));
}

/** Prompts are the rows; of the axes, what the training goes along is the columns. */
export function tableOf(grid: Grid): PreviewTable {
  const across = Math.max(
    0,
    grid.axes.findIndex(({ name }) => /^(epoch|step)/.test(name)),
  );
  const down = grid.axes.findIndex((_, at) => at !== across);
  const cells = new Map<string, Cell>();
  for (const cell of grid.cells) {
    for (const at of cell.at) cells.set(`${down < 0 ? 0 : at[down]} ${at[across]}`, cell);
  }
  return {
    grid: grid.id,
    columns: grid.axes[across]?.values ?? [],
    rows: grid.axes[down]?.values ?? [""],
    cell: (row, column) => cells.get(`${row} ${column}`) ?? null,
  };
}
