import { expect, test } from "vitest";
import type { Job, Run } from "../src/studio/api";
import { jobsBefore, jobToRead, pendingJobs } from "../src/tabs/watch/pending";

function job(id: string, state: Job["state"], values: Partial<Job> = {}): Job {
  return { id, state, verb: "train", here: true, run: null, after: [], ...values } as Job;
}

const run = (id: string, values: Partial<Run> = {}): Run => ({ id, job: null, ...values }) as Run;
const ids = (jobs: readonly Job[]) => jobs.map(({ id }) => id);

test("a training is pending from the click until it has a run", () => {
  for (const state of ["queued", "running", "stopping"] as const) {
    expect(ids(pendingJobs([job("1", state)], []))).toEqual(["1"]);
  }
  const named = job("1", "running", { run: "r" });
  expect(ids(pendingJobs([named], []))).toEqual(["1"]);
  expect(pendingJobs([named], [run("r")])).toEqual([]);
  expect(pendingJobs([job("1", "running")], [run("r", { job: "1" })])).toEqual([]);
});

test("one that ended before its first file is shown until the next one begins", () => {
  const failed = job("1", "failed");
  expect(ids(pendingJobs([failed], [run("r")]))).toEqual(["1"]);
  expect(ids(pendingJobs([job("2", "queued"), failed], []))).toEqual(["2", "1"]);
  expect(ids(pendingJobs([job("2", "running"), failed], []))).toEqual(["2"]);
  expect(pendingJobs([job("2", "done"), failed], [])).toEqual([]);
});

test("other commands and other projects are not shown", () => {
  const others = [job("1", "queued", { verb: "tag" }), job("2", "running", { here: false })];
  expect(pendingJobs(others, [])).toEqual([]);
});

test("the log is that of the command that works or failed before it, then its own", () => {
  const train = job("3", "queued", { after: ["1", "2"] });
  const before = (first: Job["state"], second: Job["state"]) => [
    job("1", first, { verb: "layout" }),
    job("2", second, { verb: "reg" }),
    train,
  ];
  expect(ids(jobsBefore(train, before("running", "queued")))).toEqual(["1", "2"]);
  expect(jobToRead(train, before("queued", "queued"))).toBe("3");
  expect(jobToRead(train, before("running", "queued"))).toBe("1");
  expect(jobToRead(train, before("done", "running"))).toBe("2");
  expect(jobToRead(train, before("done", "done"))).toBe("3");
  expect(jobToRead(train, before("failed", "failed"))).toBe("1");
});
