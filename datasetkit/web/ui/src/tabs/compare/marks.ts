/** Marks from 1 to 5 of cells, counted for each column: never added up to one number. */

import type { Table } from "./layout";
import type { Grid } from "./shapes";

export const MARKS = [1, 2, 3, 4, 5] as const;

/** For each column how many of its cells have each mark: index 0 is mark 1. */
export function countMarks(table: Table, marks: Grid["marks"]): readonly (readonly number[])[] {
  return table.columns.map((_, column) => {
    const counts = MARKS.map(() => 0);
    const seen = new Set<number>();
    table.rows.forEach((_, row) => {
      const cell = table.cell(row, column);
      const mark = cell && !seen.has(cell.n) ? marks[String(cell.n)] : undefined;
      if (cell) seen.add(cell.n);
      if (mark && mark >= 1 && mark <= 5) counts[mark - 1]! += 1;
    });
    return counts;
  });
}

/** The counts of a column as text: "5 ×2, 4 ×1", best first; "" without marks. */
export function countsText(counts: readonly number[]): string {
  return counts
    .map((count, n) => [n + 1, count] as const)
    .filter(([, count]) => count > 0)
    .reverse()
    .map(([mark, count]) => `${mark} ×${count}`)
    .join(", ");
}

/**
 * The cells that a mark of a column applies to, those without a mark: a mark of one image is more
 * exact than that of its column.
 */
export function cellsOfColumn(
  table: Table,
  column: number,
  marks: Grid["marks"],
): readonly number[] {
  const cells = table.rows.map((_, row) => table.cell(row, column)?.n);
  return [...new Set(cells)].filter(
    (n): n is number => n !== undefined && !(marks[String(n)] ?? 0),
  );
}
