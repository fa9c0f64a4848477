import { expect, test } from "vitest";
import { type Project, TAB_NAMES, tabState } from "../src/studio/facts";

const EMPTY: Project = { name: "kitsu", root: "/kitsu" };
const DONE: Project = {
  ...EMPTY,
  images: { count: 24, problems: 0, outputs_current: true },
  check: { ran: true, current: true, errors: 0 },
  captions: { captioned: 24, problems: 0 },
  plan: { concepts: 1, problems: 0, current: true },
  train: { base: "tiny", problems: 0, current: true },
  watch: { runs: 1, problems: 0, last_ended_well: true },
  compare: { loras: 10, problems: 0, kept: true },
  history: { entries: 3, problems: 0 },
};

test("a project without anything has nothing yet in each tab", () => {
  const states = tabState(EMPTY);
  expect(TAB_NAMES.map((name) => states[name].kind)).toEqual(TAB_NAMES.map(() => "empty"));
});

test("all tabs are done after the whole way; history never is", () => {
  const states = tabState(DONE);
  for (const name of TAB_NAMES) {
    expect(states[name].kind).toBe(name === "history" ? "ready" : "done");
  }
});

test("a problem needs attention, with its number, even where the rest is done", () => {
  const project: Project = { ...DONE, captions: { captioned: 24, problems: 3 } };
  expect(tabState(project).captions).toEqual({ kind: "attention", count: 3 });
});

test("what runs comes before what was found", () => {
  const project: Project = {
    ...DONE,
    captions: { captioned: 0, problems: 24 },
    running: [{ tab: "captions", share: 0.24 }],
  };
  expect(tabState(project).captions).toEqual({ kind: "running", share: 0.24 });
});

test("a check of earlier content is ready to run again, whatever it found", () => {
  const project: Project = { ...DONE, check: { ran: true, current: false, errors: 5 } };
  expect(tabState(project).check).toEqual({ kind: "ready" });
});

test("images without captions have nothing yet in Captions, some captions are ready", () => {
  const some: Project = { ...DONE, captions: { captioned: 12, problems: 0 } };
  expect(tabState({ ...DONE, captions: { captioned: 0, problems: 0 } }).captions.kind).toBe(
    "empty",
  );
  expect(tabState(some).captions.kind).toBe("ready");
});
