/** A grid as the server sends it: six files and the base, two prompts, two weights. */

import type { Axis, Cell, Grid } from "../../src/tabs/compare/shapes";

export function gridOf(axes: readonly Axis[], change: Partial<Grid> = {}): Grid {
  const counts = [0, 1, 2].map((n) => axes[n]?.values.length ?? 1);
  const cells: Cell[] = [];
  for (let z = 0; z < counts[2]!; z++)
    for (let y = 0; y < counts[1]!; y++)
      for (let x = 0; x < counts[0]!; x++)
        cells.push({
          n: cells.length,
          at: [[x, y, z].slice(0, axes.length)],
          v: "1",
          w: 64,
          h: 64,
          file: x === 0 ? null : x - 1,
          settings: { text: `prompt ${y}`, seed: z },
        });
  return {
    id: "a",
    version: 1,
    title: "kitsu",
    folder: "output/grid",
    kind: "grid",
    axes,
    cells,
    files: [],
    scores: null,
    trigger: ["kitsu"],
    family: "sd1",
    marks: {},
    options: {},
    command: "dsk grid output",
    ...change,
  };
}

export const EPOCHS: Axis = { name: "epoch", values: ["without", "epoch 2", "epoch 4", "last"] };
export const PROMPTS: Axis = { name: "prompt", values: ["smile", "frown"] };
export const SEEDS: Axis = { name: "seed", values: ["1", "2"] };
