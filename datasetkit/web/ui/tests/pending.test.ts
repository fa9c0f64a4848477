import { expect, test } from "vitest";
import type { Job, Run } from "../src/studio/api";
import { jobsBefore, jobToRead, openIn, pendingJobs } from "../src/tabs/watch/pending";

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

test("the training at work is open before one that waits, unless the address names that", () => {
  const jobs = [job("2", "queued"), job("1", "running", { run: "new" })];
  const [waits, works] = jobs;
  const runs = [run("new", { state: "running", job: "1" }), run("old", { state: "finished" })];
  const pending = pendingJobs(jobs, runs);
  expect(openIn("", jobs, runs, pending)).toEqual({ run: runs[0] });
  expect(openIn("gone", jobs, runs, pending)).toEqual({ run: runs[0] });
  expect(openIn("2", jobs, runs, pending)).toEqual({ job: waits });
  expect(openIn("1", jobs, runs, pending)).toEqual({ run: runs[0] });
  expect(openIn("old", jobs, runs, pending)).toEqual({ run: runs[1] });
  expect(openIn("", jobs, runs.slice(1), pending)).toEqual({ job: waits });
  expect(openIn("", [], runs.slice(1), [])).toEqual({ run: runs[1] });
  expect(openIn("", [works as Job], [], [])).toEqual({ run: undefined });
});
