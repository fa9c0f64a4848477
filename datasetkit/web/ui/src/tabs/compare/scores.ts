/** The scores as a table: a row for each measure, a column for each LoRA; which ones are equal. */

import type { Difference, ScoreRow, Scores } from "./shapes";

export type Measure =
  "held_out_loss" | "change" | "trained_change" | "recall" | "to_held_out" | "to_trained" | "drift";

export const MEASURES: readonly Measure[] = [
  "held_out_loss",
  "change",
  "trained_change",
  "recall",
  "to_held_out",
  "to_trained",
  "drift",
];

/** Where a higher number is better; in the others a lower one. */
const HIGHER: ReadonlySet<Measure> = new Set(["recall"]);

/** Measures of which no value is the best: how far a training has gone, not how good it is. */
const NEUTRAL: ReadonlySet<Measure> = new Set(["trained_change", "to_trained"]);

export interface ScoreCell {
  readonly text: string;
  /** Among the best: within the error of the best one. */
  readonly best: boolean;
}

export interface ScoreLine {
  readonly measure: Measure;
  readonly cells: readonly ScoreCell[];
}

/** The row of scores of each column, by the label of the column; undefined: not measured. */
export function rowsFor(
  scores: Scores,
  labels: readonly string[],
): readonly (ScoreRow | undefined)[] {
  return labels.map((label) =>
    scores.rows.find((row) => row.label.split(", ").at(-1)!.split(" = ").includes(label)),
  );
}

/** The lines of the table. A measure that no column has is left out. */
export function scoreLines(rows: readonly (ScoreRow | undefined)[]): readonly ScoreLine[] {
  return MEASURES.filter((measure) => rows.some((row) => valueOf(row, measure) !== null)).map(
    (measure) => {
      const best = NEUTRAL.has(measure) ? new Set<number>() : bestOf(rows, measure);
      return {
        measure,
        cells: rows.map((row, n) => ({ text: textOf(row, measure), best: best.has(n) })),
      };
    },
  );
}

/** Which columns are within the error of the best one. The base alone never counts as best. */
export function bestOf(
  rows: readonly (ScoreRow | undefined)[],
  measure: Measure,
): ReadonlySet<number> {
  const sign = HIGHER.has(measure) ? -1 : 1;
  const values = rows.map((row) => (row && row.lora !== "" ? valueOf(row, measure) : null));
  const numbers = values.filter((value) => value !== null).map((value) => sign * value.mean);
  if (numbers.length < 2) return new Set();
  const lowest = Math.min(...numbers);
  const best = values.find((value) => value !== null && sign * value.mean === lowest);
  const error = best?.error ?? 0;
  return new Set(
    values.flatMap((value, n) =>
      value !== null && sign * value.mean <= lowest + error + 1e-12 ? [n] : [],
    ),
  );
}

function valueOf(row: ScoreRow | undefined, measure: Measure): Difference | null {
  const value = row?.[measure] ?? null;
  return typeof value === "number" ? { mean: value, error: null } : value;
}

function textOf(row: ScoreRow | undefined, measure: Measure): string {
  const value = valueOf(row, measure);
  if (value === null) return "–";
  if (measure === "recall") return `${Math.round(value.mean * 100)} %`;
  const change = measure === "change" || measure === "trained_change";
  const digits = change || measure === "held_out_loss" ? 4 : 3;
  const sign = change && value.mean > 0 ? "+" : "";
  const number = `${sign}${value.mean.toFixed(digits)}`.replace("-", "−");
  return value.error === null ? number : `${number} ± ${value.error.toFixed(digits)}`;
}
