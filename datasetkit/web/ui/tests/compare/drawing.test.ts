import { describe, expect, it } from "vitest";
import { around, axes, coarse, count, gridOptions, spread } from "../../src/tabs/compare/drawing";

const epochs = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"];

describe("what to draw", () => {
  it("spreads the first files over the training, with the last one", () => {
    expect(spread(epochs, 4)).toEqual(["3", "5", "8", "10"]);
    expect(spread(["2", "4"], 4)).toEqual(["2", "4"]);
  });

  it("counts the images, the base model's with them", () => {
    expect(count(coarse(epochs, 3), epochs.length)).toBe(4 * 2 * 3 + 2 * 3);
    expect(count({ ...coarse(epochs, 1), epochs: [], weights: [0.6, 1], seeds: 1 }, 10)).toBe(21);
  });

  it("names the axes as dsk grid does", () => {
    expect(gridOptions(coarse(epochs, 3))).toEqual({
      x: "epoch=3,5,8,10",
      y: "seed=1-2",
      z: "prompt",
    });
    const choice = { ...coarse(epochs, 1), epochs: [], weights: [0.6, 0.8], seeds: 1, score: true };
    expect(gridOptions(choice)).toEqual({ x: "epoch", y: "weight=0.6,0.8", score: true });
  });

  it("has room for three axes", () => {
    const choice = { ...coarse(epochs, 3), weights: [0.6, 1] };
    expect(axes(choice)).toHaveLength(4);
    expect(gridOptions(choice)).toBeNull();
  });

  it("draws more around a file, and keeps what is drawn", () => {
    expect(around(epochs, ["3", "8"], "8")).toEqual(["3", "6", "7", "8", "9", "10"]);
    expect(around(epochs, ["3"], "99")).toEqual(["3"]);
  });
});
