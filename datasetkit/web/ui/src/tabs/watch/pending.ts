/** Trainings that have no files yet: they wait, start, or have ended before their first file. */

import type { Job, Run } from "../../studio/api";

const ACTIVE: readonly string[] = ["queued", "running", "stopping"];

/** The trainings of the project without a run, the newest first. One that has ended is shown until
 * the next one begins. */
export function pendingJobs(jobs: readonly Job[], runs: readonly Run[]): readonly Job[] {
  const shown = new Set(runs.flatMap((run) => [run.id, run.job ?? ""]));
  const trainings = jobs
    .filter((job) => job.here && job.verb === "train")
    .sort((a, b) => (a.id < b.id ? 1 : -1));
  const newest = trainings.find((job) => job.state !== "queued");
  return trainings.filter((job) => {
    if (shown.has(job.id)) return false;
    if (ACTIVE.includes(job.state)) return job.run === null || !shown.has(job.run);
    return job === newest && job.state !== "done" && (job.run === null || !shown.has(job.run));
  });
}

/** The jobs that a training waits for or that kept it from starting: in their order. */
export function jobsBefore(job: Job, jobs: readonly Job[]): readonly Job[] {
  return job.after.flatMap((id) =>
    jobs.filter((other) => other.id === id && other.state !== "done"),
  );
}

/** The job whose log says what happens: the one before it that works or failed, else its own. */
export function jobToRead(job: Job, jobs: readonly Job[]): string {
  const before = jobsBefore(job, jobs).find(({ state }) => state !== "queued");
  return (before ?? job).id;
}
