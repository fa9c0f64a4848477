import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError } from "../src/http";
import type { OptionInfo } from "../src/parts/options";
import type { Config, ConfigChange, StudioApi } from "../src/studio/api";
import {
  changeOf,
  countChanged,
  fieldOf,
  formatPreset,
  NO_PRESET,
  parsePreset,
  SAVE_DELAY,
  TrainForm,
} from "../src/tabs/train/form";
import { fileName, ownSettings } from "../src/tabs/train/ownSettings";

const RANK = { name: "network_dim", default: 32, path: "" } as unknown as OptionInfo;
const ALPHA = { name: "network_alpha", default: 16, path: "" } as unknown as OptionInfo;
const GAMMA = { name: "min_snr_gamma", default: null } as unknown as OptionInfo;

function config(train: Config["tables"][string], hash = "a"): Config {
  return {
    path: "dsk.toml",
    exists: true,
    hash,
    text: "",
    tables: { train },
    concepts: [],
    problem: null,
    layers: [
      { name: "sdxl", title: "SDXL", tables: { train: { network_dim: 8, resolution: 1024 } } },
      { name: "character", title: "character", tables: { train: { network_dim: 16 } } },
    ],
  };
}

/** A server with a file: its hash is the number of writes. */
function server(start: Config) {
  const writes: ConfigChange[] = [];
  const state = { config: start, refuse: null as ApiError | null };
  const api = {
    config: () => Promise.resolve(state.config),
    saveConfig: (change: ConfigChange) => {
      writes.push(change);
      if (state.refuse) return Promise.reject(state.refuse);
      const train = { ...state.config.tables["train"], ...change.set["train"] };
      for (const name of change.unset["train"] ?? []) delete train[name];
      state.config = { ...config(train), hash: String(writes.length) };
      return Promise.resolve(state.config);
    },
  } as unknown as StudioApi;
  const errors: unknown[] = [];
  return { writes, state, errors, form: new TrainForm(api, (error) => errors.push(error)) };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());
const later = (milliseconds = SAVE_DELAY) => vi.advanceTimersByTimeAsync(milliseconds);

test("a value comes from dsk.toml, else the strongest preset, else the default", () => {
  const file = config({ network_alpha: 4 });
  expect(fieldOf(file, {}, ALPHA)).toEqual({ value: 4, source: "file", base: 16 });
  expect(fieldOf(file, {}, RANK)).toEqual({ value: 16, source: "preset", base: 16 });
  expect(fieldOf(file, {}, GAMMA)).toEqual({ value: null, source: "default", base: null });
  expect(fieldOf(null, {}, RANK).value).toBe(32);
  expect(countChanged(file, { network_dim: 64 }, [RANK, ALPHA, GAMMA])).toBe(2);
});

test("an edit is written a moment after the last key, once", async () => {
  const { form, writes } = server(config({}));
  await form.load();
  for (const value of [6, 64, 640]) {
    form.set("network_dim", value);
    await later(200);
  }
  expect(writes).toEqual([]);
  await later();
  expect(writes).toEqual([
    { hash: "a", set: { train: { network_dim: 640 } }, unset: { train: [] } },
  ]);
  expect(form.isSaved).toBe(true);
});

test("a reset removes the key; what is in the file already is not written", async () => {
  const { form, writes } = server(config({ network_dim: 4, network_alpha: 2 }));
  await form.load();
  form.reset("network_dim");
  form.set("network_alpha", 2);
  form.reset("min_snr_gamma");
  await later();
  expect(writes.map(({ set, unset }) => [set, unset])).toEqual([
    [{ train: {} }, { train: ["network_dim"] }],
  ]);
  expect(changeOf(config({}), { network_dim: undefined })).toEqual({ set: {}, unset: [] });
});

test("an edit during a write is written after it, with the new hash", async () => {
  const { form, writes } = server(config({}));
  await form.load();
  form.set("network_dim", 4);
  void form.save();
  await Promise.resolve();
  form.set("network_dim", 5);
  form.set("network_alpha", 1);
  await later();
  expect(writes.map((write) => write.hash)).toEqual(["a", "1"]);
  expect(writes[1]?.set).toEqual({ train: { network_dim: 5, network_alpha: 1 } });
});

test("a value that the server refuses stays in its field, with the reason", async () => {
  const { form, state } = server(config({}));
  await form.load();
  state.refuse = new ApiError(400, "wrong", "", null, null, [], 0, {
    problems: { "train.network_dim": { error: "network_dim is too large", hint: "at most 4096" } },
  });
  form.set("network_dim", 9999);
  await later();
  expect(form.store.get().problems).toEqual({
    network_dim: "network_dim is too large: at most 4096",
  });
  expect(fieldOf(form.store.get().config, form.store.get().edits, RANK).value).toBe(9999);
  expect(form.isSaved).toBe(false);
  state.refuse = null;
  form.set("network_dim", 8);
  await later();
  expect([form.store.get().problems, form.isSaved]).toEqual([{}, true]);
});

test("a file that was changed meanwhile asks field by field", async () => {
  const { form, state, writes } = server(config({ network_dim: 4 }));
  await form.load();
  const theirs = config({ network_dim: 5 }, "b");
  state.refuse = new ApiError(409, "changed", "", null, null, [], 0, {
    config: theirs,
    differences: [{ table: "train", key: "network_dim", yours: 6, theirs: 5 }],
  });
  form.set("network_dim", 6);
  form.set("network_alpha", 2);
  await later();
  expect(form.store.get().conflict).toHaveLength(1);
  state.refuse = null;
  state.config = theirs;
  form.resolve({ network_dim: false });
  await later();
  expect(writes[1]).toEqual({
    hash: "b",
    set: { train: { network_alpha: 2 } },
    unset: { train: [] },
  });
});

test("a change of other keys is no question: both stay", async () => {
  const { form, state, writes } = server(config({}));
  await form.load();
  state.refuse = new ApiError(409, "changed", "", null, null, [], 0, {
    config: config({ seed: 1 }, "b"),
    differences: [],
  });
  form.set("network_dim", 6);
  await vi.advanceTimersByTimeAsync(SAVE_DELAY - 1);
  setTimeout(() => (state.refuse = null), 2);
  await later();
  expect(form.store.get().conflict).toBeNull();
  expect(writes[writes.length - 1]?.hash).toBe("b");
  expect(form.isSaved).toBe(true);
});

test("the parts of a preset's name", () => {
  const parts = {
    families: ["sd1", "sdxl", "z-image"],
    goals: ["character", "style"],
    memory: ["roomy", "tight", "tightest"],
  };
  const name = { family: "sdxl", goal: "character", memory: "tight" };
  expect(parsePreset("sdxl-character-tight@1", parts)).toEqual(name);
  expect(parsePreset("sdxl-style@3", parts)).toEqual({ family: "sdxl", goal: "style", memory: "" });
  expect(parsePreset(undefined, parts)).toEqual({ family: "", goal: "", memory: "" });
  expect(formatPreset(name)).toBe("sdxl-character-tight@1");
  const zImage = { family: "z-image", goal: "", memory: "tight" };
  expect(parsePreset(formatPreset(zImage), parts)).toEqual(zImage);
  expect(parsePreset("unknown-style@1", parts)).toEqual(NO_PRESET);
  expect(formatPreset({ ...NO_PRESET, goal: "style" })).toBe("");
});

test("a preset of the user has the settings, and nothing of the project", () => {
  const vae = { name: "vae", default: "", path: "model" } as unknown as OptionInfo;
  const options = [RANK, ALPHA, vae];
  const file = config({ network_dim: 4, vae: "a.safetensors", output_name: "x", preset: "sdxl@1" });
  expect(ownSettings(file, options)).toEqual({ network_dim: 4, preset: "sdxl@1" });
  expect(fileName("SDXL · kitsu", [])).toBe("sdxl-kitsu");
  expect(fileName("SDXL kitsu", [{ name: "sdxl-kitsu" }])).toBe("sdxl-kitsu-2");
  expect(fileName("角色", [{ name: "preset" }])).toBe("preset-2");
});

test("a preset of the user replaces the settings, and what is of the project stays", async () => {
  const { form, writes } = server(config({ network_dim: 4, network_alpha: 2, output_name: "x" }));
  await form.load();
  form.useOwn({ network_dim: 64, min_snr_gamma: 5 }, new Set(["output_name"]));
  await later(0);
  expect(writes).toEqual([
    {
      hash: "a",
      set: { train: { network_dim: 64, min_snr_gamma: 5 } },
      unset: { train: ["network_alpha"] },
    },
  ]);
  expect(form.isSaved).toBe(true);
});
