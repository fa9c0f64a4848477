/** What of dsk.toml belongs to a preset of the user, and how its file is named. */

import type { OptionInfo } from "../../parts/options";
import type { Config, OwnPreset, Table } from "../../studio/api";

/** Besides all options with a path: what is trained on, and how its results are named. */
const OF_A_PROJECT: readonly string[] = ["revision", "output_name"];

/** The names of options that belong to one project, and to no preset. */
export function ofProject(options: readonly OptionInfo[]): ReadonlySet<string> {
  const paths = options.filter(({ path }) => path !== "");
  return new Set([...OF_A_PROJECT, ...paths.map(({ name }) => name)]);
}

/** The settings of [train] that a preset of the user has, with the shipped preset below them. */
export function ownSettings(config: Config | null, options: readonly OptionInfo[]): Table {
  const left = ofProject(options);
  const stored = Object.entries(config?.tables["train"] ?? {});
  return Object.fromEntries(stored.filter(([name]) => !left.has(name)));
}

/** The name of the file of a preset: letters and digits of its title, else the first free number. */
export function fileName(title: string, own: readonly Pick<OwnPreset, "name">[]): string {
  const taken = new Set(own.map(({ name }) => name));
  const plain = title
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, "-")
    .replace(/^[-_]+|-+$/g, "")
    .slice(0, 56);
  const base = plain || "preset";
  let name = base;
  for (let number = 2; taken.has(name); number++) name = `${base}-${number}`;
  return name;
}
