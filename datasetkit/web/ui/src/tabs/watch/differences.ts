/** Which options of two runs differ. */

import { numberText, type OptionValue, sameValue } from "../../parts/options";
import type { Table } from "../../studio/api";

export interface Difference {
  readonly name: string;
  readonly value: OptionValue;
  readonly other: OptionValue;
}

/** Names of files and folders differ between all runs, and say nothing about the training. */
const NAMES = ["output_name", "output_dir", "logging_dir", "training_comment"];

export function differences(options: Table, other: Table): readonly Difference[] {
  return Object.keys({ ...other, ...options })
    .filter((name) => !NAMES.includes(name))
    .map((name) => ({ name, value: options[name] ?? null, other: other[name] ?? null }))
    .filter(({ value, other: theirs }) => !sameValue(value, theirs));
}

export function shown(value: OptionValue): string {
  if (value === null || value === "") return "–";
  if (typeof value === "number") return numberText(value);
  if (Array.isArray(value)) return value.join(" ");
  return String(value);
}
