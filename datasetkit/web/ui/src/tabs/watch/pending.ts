/** Trainings that have no files yet: they wait, start, or have ended before their first file. */

import { isActive, isRunning, type Job, type Run } from "../../studio/api";

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
    if (isActive(job)) return job.run === null || !shown.has(job.run);
    return job === newest && job.state !== "done" && (job.run === null || !shown.has(job.run));
  });
}

/** What the tab shows: what the address names, else the training at work, the newest without a run,
 * or the newest run. The address of a training that was just started is its job's; then it gets a
 * run. */
export function openIn(
  wanted: string,
  jobs: readonly Job[],
  runs: readonly Run[],
  pending: readonly Job[],
): { readonly run?: Run | undefined; readonly job?: Job | undefined } {
  const named =
    runs.find(({ id }) => id === wanted) ??
    runs.find(({ job }) => job === wanted) ??
    runs.find(({ id }) => id === jobs.find((job) => job.id === wanted)?.run);
  if (named) return { run: named };
  const waiting = pending.find(({ id }) => id === wanted);
  if (waiting) return { job: waiting };
  const atWork = runs.find(isRunning);
  if (atWork) return { run: atWork };
  return pending[0] ? { job: pending[0] } : { run: runs[0] };
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
