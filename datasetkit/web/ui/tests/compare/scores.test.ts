import { describe, expect, it } from "vitest";
import { bestOf, rowsFor, scoreLines } from "../../src/tabs/compare/scores";
import { compared, differences } from "../../src/tabs/compare/settings";
import type { ScoreRow, Scores } from "../../src/tabs/compare/shapes";

function row(label: string, change: Partial<ScoreRow> = {}): ScoreRow {
  return {
    label,
    lora: label === "without" ? "" : `${label}.safetensors`,
    unet_weight: 1,
    text_weight: 1,
    held_out_loss: null,
    change: null,
    trained_change: null,
    recall: null,
    to_held_out: null,
    to_trained: null,
    drift: null,
    ...change,
  };
}

const rows = [
  row("without", { held_out_loss: 0.1 }),
  row("epoch 4", { held_out_loss: 0.4, change: { mean: -0.4, error: 0.01 }, recall: 0.5 }),
  row("epoch 8", { held_out_loss: 0.3, change: { mean: -0.461, error: 0.01 }, recall: 0.88 }),
  row("epoch 10", { held_out_loss: 0.3, change: { mean: -0.47, error: 0.01 }, recall: 0.88 }),
];

describe("scores", () => {
  it("print all columns within the error of the best in bold", () => {
    expect([...bestOf(rows, "change")]).toEqual([2, 3]);
    expect([...bestOf(rows, "recall")]).toEqual([2, 3]);
  });

  it("never call the base model alone the best, nor the only file", () => {
    expect([...bestOf(rows, "held_out_loss")]).toEqual([2, 3]);
    expect([...bestOf(rows.slice(0, 2), "change")]).toEqual([]);
  });

  it("leave out what was not measured", () => {
    const lines = scoreLines(rows);
    expect(lines.map((line) => line.measure)).toEqual(["held_out_loss", "change", "recall"]);
    expect(lines[1]!.cells.map((cell) => cell.text)).toEqual([
      "–",
      "−0.4000 ± 0.0100",
      "−0.4610 ± 0.0100",
      "−0.4700 ± 0.0100",
    ]);
    expect(lines[2]!.cells.at(-1)).toEqual({ text: "88 %", best: true });
  });

  it("find the row of a column, also of a file that is two of them", () => {
    const scores = { rows: [row("tiny, epoch 12 = last"), row("without")] } as unknown as Scores;
    expect(
      rowsFor(scores, ["without", "last", "epoch 12", "epoch 1"]).map((r) => r?.label),
    ).toEqual(["without", "tiny, epoch 12 = last", "tiny, epoch 12 = last", undefined]);
  });
});

describe("settings", () => {
  it("show what differs first", () => {
    const rows = compared({ seed: 1, steps: 30, text: "kitsu" }, { seed: 2, steps: 30, cfg: 7.5 });
    expect(rows.map((item) => [item.name, item.differs])).toEqual([
      ["seed", true],
      ["text", true],
      ["cfg", true],
      ["steps", false],
    ]);
    expect(rows[1]).toEqual({ name: "text", left: "kitsu", right: "–", differs: true });
  });

  it("do not differ by how a number is stored", () => {
    expect(differences({ weight: 0.1 + 0.2 }, { weight: 0.3 })).toEqual([]);
  });
});
