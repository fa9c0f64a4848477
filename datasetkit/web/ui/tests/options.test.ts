import { expect, test } from "vitest";
import {
  numberText,
  type OptionInfo,
  parseValue,
  rangeText,
  searchOptions,
  textOf,
} from "../src/parts/options";

function option(name: string, change: Partial<OptionInfo> = {}): OptionInfo {
  return {
    name,
    help: "",
    change: "",
    shown: "",
    group: "",
    unit: "",
    slot: null,
    usual: {},
    range: null,
    choices: [],
    families: [],
    path: "",
    imports_code: [],
    literal: false,
    needs: "",
    applies: "at start",
    old_names: [],
    types: ["float"],
    required: false,
    default: 0,
    ...change,
  };
}

const rate = option("learning_rate", { range: [0, 100] });
const rank = option("network_dim", { types: ["int"], range: [1, 4096], default: 32 });

test("numbers are read as they are typed, in scientific notation too", () => {
  expect(parseValue(rate, "1e-4")).toEqual({ ok: true, value: 0.0001 });
  expect(parseValue(rate, " .5 ")).toEqual({ ok: true, value: 0.5 });
  expect(parseValue(rank, "16")).toEqual({ ok: true, value: 16 });
});

test.each([
  [rate, "1e"],
  [rate, "0x10"],
  [rate, "Infinity"],
  [rate, ""],
  [rate, "-1"],
  [rank, "1.5"],
  [rank, "0"],
  [rank, "5000"],
  [rank, "１６"],
] as const)("$0.name does not take $1", (which, text) => {
  expect(parseValue(which, text).ok).toBe(false);
});

test("an empty field is no value where there need not be one", () => {
  const gamma = option("min_snr_gamma", { default: null });
  expect(parseValue(gamma, " ")).toEqual({ ok: true, value: null });
});

test("small rates are shown as people write them, and what is shown is read back", () => {
  expect([0.0001, 0.00001, 0.00003, 0.5, 0, 1e9].map(numberText)).toEqual([
    "0.0001",
    "1e-5",
    "3e-5",
    "0.5",
    "0",
    "1e9",
  ]);
  for (const value of [0.0001, 3e-5, 1.25e-7, 12]) {
    expect(parseValue(rate, textOf(value))).toEqual({ ok: true, value });
  }
});

test("a range is in one notation", () => {
  expect(rangeText([0.00003, 0.0003])).toEqual({ from: "3e-5", to: "3e-4" });
  expect(rangeText([0, 0.0005])).toEqual({ from: "0", to: "5e-4" });
  expect(rangeText([4, 32])).toEqual({ from: "4", to: "32" });
});

test("lists and pairs", () => {
  const size = option("resolution", { types: ["int", "pair of int"], range: [64, 4096] });
  expect(parseValue(size, "512, 768")).toEqual({ ok: true, value: [512, 768] });
  expect(parseValue(size, "512x768")).toEqual({ ok: true, value: [512, 768] });
  expect(parseValue(size, "512")).toEqual({ ok: true, value: 512 });
  const words = option("blocks", { types: ["list of str"], default: [] });
  expect(parseValue(words, "a, b,,")).toEqual({ ok: true, value: ["a", "b"] });
  const text = option("name", { types: ["str"], default: "" });
  expect(parseValue(text, "a, b ")).toEqual({ ok: true, value: "a, b " });
});

test("a search finds names first, then old names, then help", () => {
  const all = [
    option("loss_type", { help: "Weights by the SNR." }),
    option("debiased_estimation_loss"),
    option("min_snr_gamma"),
    option("snr_floor"),
    option("network_dim", { old_names: ["rank"] }),
  ];
  const names = (typed: string) => searchOptions(all, typed).map(({ name }) => name);
  expect(names("snr")).toEqual(["snr_floor", "min_snr_gamma", "loss_type"]);
  expect(names("snr_g")).toEqual(["min_snr_gamma"]);
  expect(names("rank")).toEqual(["network_dim"]);
  expect([names("("), names("a-b]")]).toEqual([[], []]);
  expect(names("-")).toHaveLength(5);
  expect(names("")).toHaveLength(5);
});
