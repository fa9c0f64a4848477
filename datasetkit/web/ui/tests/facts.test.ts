import { expect, test } from "vitest";
import { type Project, TAB_NAMES, tabState, type Work } from "../src/studio/facts";

const EMPTY: Project = {
  name: "kitsu",
  root: "/kitsu",
  config: { exists: false, hash: "", problem: null },
  images: { concepts: [], total: 0, unreadable: 0, small: 0, near_duplicates: 0, left_out: 0 },
  captions: { captioned: 0, missing: 0, empty: 0, without_trigger: 0 },
  check: { ran: null, code: 0, is_current: false },
  layout: { folder: "dataset", exists: false, is_current: false, images: 0 },
  train: { base: "", problem: null },
  runs: { total: 0, running: 0, failed: 0, lost: 0, last: null, current: false },
  compare: { loras: 0, grids: 0, kept: 0 },
  history: { entries: 0, interrupted: 0, undo: null },
  locked: null,
};
const DONE: Project = {
  ...EMPTY,
  images: {
    ...EMPTY.images,
    concepts: [{ name: "kitsu", folder: "imgs", images: 24, repeats: 0 }],
    total: 24,
    left_out: 2,
  },
  captions: { captioned: 24, missing: 0, empty: 0, without_trigger: 0 },
  check: { ran: "2026-11-29T17:26:00Z", code: 0, is_current: true },
  layout: { folder: "dataset", exists: true, is_current: true, images: 24 },
  train: { base: "tiny", problem: null },
  runs: { total: 1, running: 0, failed: 0, lost: 0, last: "a", current: true },
  compare: { loras: 10, grids: 1, kept: 1 },
  history: { entries: 3, interrupted: 0, undo: "tag" },
};
const TAGGING: Work = {
  verb: "tag",
  state: "running",
  here: true,
  progress: { done: 6, of: 24 },
};

test("a project without anything has nothing yet in each tab", () => {
  const states = tabState(EMPTY);
  expect(TAB_NAMES.map((name) => states[name].kind)).toEqual(TAB_NAMES.map(() => "empty"));
});

test("all tabs are done after the whole way; history never is", () => {
  const states = tabState(DONE);
  for (const name of TAB_NAMES) {
    expect([name, states[name].kind]).toEqual([name, name === "history" ? "ready" : "done"]);
  }
});

test("problems need attention, with their number, even where the rest is done", () => {
  const captions = { captioned: 22, missing: 2, empty: 0, without_trigger: 3 };
  expect(tabState({ ...DONE, captions }).captions).toEqual({ kind: "attention", count: 5 });
  const runs = { ...DONE.runs, failed: 1, lost: 1 };
  expect(tabState({ ...DONE, runs }).watch).toEqual({ kind: "attention", count: 2 });
});

test("what runs in this project comes before what was found", () => {
  const project = {
    ...DONE,
    captions: { captioned: 0, missing: 24, empty: 0, without_trigger: 0 },
  };
  expect(tabState(project, [TAGGING]).captions).toEqual({ kind: "running", share: 0.25 });
  expect(tabState(project, [{ ...TAGGING, progress: null }]).captions).toEqual({
    kind: "running",
    share: null,
  });
  for (const other of [
    { ...TAGGING, here: false },
    { ...TAGGING, state: "queued" },
    { ...TAGGING, verb: "doctor" },
  ]) {
    expect(tabState(project, [other])).toEqual(tabState(project));
  }
});

test("a check of earlier content is ready to run again, whatever it found", () => {
  const check = { ran: "2026-11-29T17:26:00Z", code: 1, is_current: false };
  expect(tabState({ ...DONE, check }).check).toEqual({ kind: "ready" });
  expect(tabState({ ...DONE, check: { ...check, is_current: true } }).check.kind).toBe("attention");
});

test("images without captions have nothing yet in Captions, some captions are ready", () => {
  const none = { captioned: 0, missing: 0, empty: 0, without_trigger: 0 };
  expect(tabState({ ...DONE, captions: none }).captions.kind).toBe("empty");
  expect(tabState({ ...DONE, captions: { ...none, captioned: 12 } }).captions.kind).toBe("ready");
});
