/** Two lists of settings beside each other, with what differs. */

import type { Setting } from "./shapes";

export interface SettingRow {
  readonly name: string;
  readonly left: string;
  readonly right: string;
  readonly differs: boolean;
}

type Settings = Readonly<Record<string, Setting>>;

/** All settings of two images, those that differ first. */
export function compared(left: Settings, right: Settings): readonly SettingRow[] {
  const names = [...new Set([...Object.keys(left), ...Object.keys(right)])];
  const rows = names.map((name) => {
    const [a, b] = [shown(left[name]), shown(right[name])];
    return { name, left: a, right: b, differs: a !== b };
  });
  return [...rows.filter((row) => row.differs), ...rows.filter((row) => !row.differs)];
}

/** Only what differs. */
export function differences(left: Settings, right: Settings): readonly SettingRow[] {
  return compared(left, right).filter((row) => row.differs);
}

export function shown(value: Setting | undefined): string {
  if (value === undefined || value === null || value === "") return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(+value.toPrecision(6));
  return String(value);
}
