/** Two grids as one table: the files of both runs as columns, beside each other. */

import { columnAxis, WITHOUT } from "./layout";
import { differences, type SettingRow } from "./settings";
import type { Axis, Cell, Grid, LoraFile, Origin, ScoreRow, Scores } from "./shapes";

/** Names of files and folders differ between all runs, and say nothing about the training. */
const NAMES: ReadonlySet<string> = new Set([
  "output_name",
  "output_dir",
  "logging_dir",
  "training_comment",
]);

/** The grid and the number by which the server knows a cell or a file. */
export function originOf(
  grid: Pick<Grid, "id">,
  { n, origin }: { readonly n: number; readonly origin?: Origin },
): Origin {
  return origin ?? { grid: grid.id, n };
}

/** The options by which two runs differ. */
export function differingOptions(a: Grid, b: Grid): readonly SettingRow[] {
  return differences(a.options, b.options).filter(({ name }) => !NAMES.has(name));
}

/**
 * Join two grids. A column is `A · 4` or `B · 4`, equal ones are neighbours; the base model is that
 * of A. Rows are joined by their values: where one grid has no cell, none is shown.
 */
export function joinedGrid(a: Grid, b: Grid): Grid {
  const columns = joinedColumns(valuesOf(a), valuesOf(b));
  const rows = joinedRows(a, b);
  const name = a.axes[columnAxis(a)]?.name ?? "lora";
  const files = numberAfter(a.files);
  const cells = numberAfter(a.cells);
  const both = [
    { grid: a, letter: "A", cells: 0, files: 0 },
    { grid: b, letter: "B", cells, files },
  ];
  return {
    ...a,
    axes: [{ name, values: columns }, ...rows],
    cells: both.flatMap((part) => cellsOf(part, columns, rows)),
    files: both.flatMap(({ grid, letter, files: from }) =>
      grid.files.map((file): LoraFile => ({
        ...file,
        n: file.n + from,
        label: `${letter} · ${file.label}`,
        origin: originOf(grid, file),
      })),
    ),
    marks: Object.fromEntries(
      both.flatMap(({ grid, cells: from }) =>
        Object.entries(grid.marks).map(([n, mark]) => [String(Number(n) + from), mark] as const),
      ),
    ),
    scores: joinedScores(a.scores, b.scores),
  };
}

function valuesOf(grid: Grid): readonly string[] {
  return grid.axes[columnAxis(grid)]?.values ?? [];
}

function numberAfter(things: readonly { readonly n: number }[]): number {
  return Math.max(-1, ...things.map(({ n }) => n)) + 1;
}

function joinedColumns(a: readonly string[], b: readonly string[]): readonly string[] {
  const labels = [...new Set([...a, ...b])].filter((label) => label !== WITHOUT);
  const base = [...a, ...b].includes(WITHOUT) ? [WITHOUT] : [];
  const columns = labels.flatMap((label) => [
    ...(a.includes(label) ? [`A · ${label}`] : []),
    ...(b.includes(label) ? [`B · ${label}`] : []),
  ]);
  return [...base, ...columns];
}

/** The other axes of both, each with the values of both. */
function joinedRows(a: Grid, b: Grid): readonly Axis[] {
  const others = (grid: Grid) => grid.axes.filter((_, n) => n !== columnAxis(grid));
  const names = [...new Set([...others(a), ...others(b)].map((axis) => axis.name))];
  return names.map((name) => ({
    name,
    values: [
      ...new Set(
        [a, b].flatMap((grid) => others(grid).find((axis) => axis.name === name)?.values ?? []),
      ),
    ],
  }));
}

interface Part {
  readonly grid: Grid;
  readonly letter: string;
  /** What is added to the numbers of its cells and files. */
  readonly cells: number;
  readonly files: number;
}

function cellsOf(part: Part, columns: readonly string[], rows: readonly Axis[]): readonly Cell[] {
  const { grid, letter } = part;
  const across = columnAxis(grid);
  const place = (at: readonly number[]): readonly number[] => {
    const label = grid.axes[across]?.values[at[across] ?? 0] ?? "";
    const column = label === WITHOUT ? (letter === "A" ? WITHOUT : "") : `${letter} · ${label}`;
    return [
      columns.indexOf(column),
      ...rows.map((axis) => {
        const own = grid.axes.findIndex((each) => each.name === axis.name);
        // A grid without the axis has one value for it: it stands in the first row.
        return own < 0 ? 0 : axis.values.indexOf(grid.axes[own]!.values[at[own] ?? 0] ?? "");
      }),
    ];
  };
  return grid.cells
    .map((cell) => ({
      ...cell,
      n: cell.n + part.cells,
      file: cell.file === null ? null : cell.file + part.files,
      at: cell.at.map(place).filter(([column]) => column !== -1),
      origin: originOf(grid, cell),
    }))
    .filter((cell) => cell.at.length > 0);
}

function joinedScores(a: Scores | null, b: Scores | null): Scores | null {
  const named = (scores: Scores | null, letter: string): readonly ScoreRow[] =>
    (scores?.rows ?? []).map((row) =>
      row.label === WITHOUT ? row : { ...row, label: `${letter} · ${row.label}` },
    );
  const first = a ?? b;
  if (first === null) return null;
  const letter = a ? "A" : "B";
  return {
    ...first,
    rows: [...named(a, "A"), ...named(b, "B").filter((row) => !a || row.label !== WITHOUT)],
    suggestion: { ...first.suggestion, label: `${letter} · ${first.suggestion.label}` },
    notes: [...new Set([...(a?.notes ?? []), ...(b?.notes ?? [])])],
  };
}
