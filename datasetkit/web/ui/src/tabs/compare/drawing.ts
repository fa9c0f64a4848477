/** What to draw: plain choices of a person become the axes of `dsk grid`. */

export interface Choice {
  /** Labels of files as the axis `epoch` has them: "2", "4", "last"; empty: all. */
  readonly epochs: readonly string[];
  readonly weights: readonly number[];
  readonly seeds: number;
  /** How many prompts there are. */
  readonly prompts: number;
  readonly score: boolean;
}

/** At first four files, spread over the training, with the last one. */
export const COARSE = 4;

/** So many values of a list, at equal distances, with the last one. */
export function spread<T>(values: readonly T[], count: number): readonly T[] {
  if (values.length <= count) return values;
  const picked = Array.from(
    { length: count },
    (_, n) => Math.round(((n + 1) * values.length) / count) - 1,
  );
  return picked.map((n) => values[n]!);
}

/** The coarse choice, to draw first. */
export function coarse(epochs: readonly string[], prompts: number): Choice {
  return { epochs: spread(epochs, COARSE), weights: [1], seeds: 2, prompts, score: false };
}

/** The files around one, those that are drawn already included: they cost nothing. */
export function around(
  epochs: readonly string[],
  drawn: readonly string[],
  epoch: string,
): readonly string[] {
  const at = epochs.indexOf(epoch);
  if (at < 0) return drawn;
  const near = new Set([...drawn, ...epochs.slice(Math.max(0, at - 2), at + 3)]);
  return epochs.filter((name) => near.has(name));
}

/** How many images a choice is, the base model's with them. */
export function count(choice: Choice, epochs: number): number {
  const files = choice.epochs.length || epochs;
  const without = choice.prompts * choice.seeds;
  return without + files * choice.weights.length * choice.seeds * choice.prompts;
}

/** Which choices have more than one value; a grid has room for three. */
export function axes(choice: Choice): readonly ("epoch" | "weight" | "seed" | "prompt")[] {
  return [
    "epoch" as const,
    ...(choice.weights.length > 1 ? (["weight"] as const) : []),
    ...(choice.seeds > 1 ? (["seed"] as const) : []),
    ...(choice.prompts > 1 ? (["prompt"] as const) : []),
  ];
}

/** The options of `dsk grid`, or null where there are more than three axes. */
export function gridOptions(choice: Choice): Readonly<Record<string, string | boolean>> | null {
  const names = axes(choice);
  if (names.length > 3) return null;
  const values: Record<(typeof names)[number], string> = {
    epoch: choice.epochs.length ? `epoch=${choice.epochs.join(",")}` : "epoch",
    weight: `weight=${choice.weights.join(",")}`,
    seed: `seed=1-${choice.seeds}`,
    prompt: "prompt",
  };
  const keys = ["x", "y", "z"] as const;
  const options: Record<string, string | boolean> = {};
  names.forEach((name, n) => (options[keys[n]!] = values[name]));
  if (choice.score) options["score"] = true;
  return options;
}
