/** A training without files: its place in the queue, what runs before it, and the log. */

import { t } from "../../i18n";
import { Bar, JobBar } from "../../parts/JobBar";
import { Log } from "../../parts/Log";
import { isActive, isRunning, type Job } from "../../studio/api";
import { useStudio, useStudioState } from "../../studio/context";
import { chainsOf, queueOf, removeParts } from "../../studio/chains";
import { formatRoute } from "../../studio/route";
import { JobState } from "../../studio/Jobs";
import { jobsBefore, jobToRead } from "./pending";
import { RunMark } from "./RunMark";
import { useLog } from "./RunNotes";

export function PendingRun({ job }: { readonly job: Job }) {
  const jobs = useStudioState((state) => state.jobs);
  const before = jobsBefore(job, jobs);
  const queue = queueOf(chainsOf(jobs));
  const at = queue.findIndex(({ last }) => last.id === job.id);
  const log = useLog(jobToRead(job, jobs));
  const name = job.title || t("tab.train");
  const active = isActive(job);
  return (
    <div className="watch">
      <header className="run-header">
        <div className="run-title">
          <RunMark state={job.state} />
          <h2>{name}</h2>
          <span className="run-step">{stepText(job, at + 1)}</span>
          <span className="run-facts" />
          {active ? (
            <StopPending job={job} />
          ) : (
            <a href={formatRoute("train")}>{t("watch.again")}</a>
          )}
        </div>
        {isRunning(job) ? (
          <JobBar job={job} />
        ) : active && before.length === 0 ? (
          <Bar share={0} label={t("jobs.progress", { title: name })} />
        ) : null}
        {active ? null : <Ended job={job} before={before} />}
      </header>
      {before.length > 0 ? (
        <section className="run-before">
          <h3>{t(active ? "watch.before" : "watch.before.failed")}</h3>
          <ol>
            {before.map((other) => (
              <li key={other.id}>
                <code>{other.command}</code> <JobState job={other} />
                {isRunning(other) ? <JobBar job={other} /> : null}
              </li>
            ))}
          </ol>
        </section>
      ) : null}
      {log.lines.length > 0 ? (
        <section>
          <h3>{t("watch.log")}</h3>
          <Log log={log} label={t("watch.log.label", { name })} />
        </section>
      ) : null}
    </div>
  );
}

/** place: in the queue, from 1; 0 for one that starts, or what runs before it. */
function stepText(job: Job, place: number): string {
  if (place > 0) return job.held ? t("watch.held") : t("watch.waiting", { place });
  return isActive(job) ? t("watch.starting") : t(`job.state.${job.state}`);
}

interface EndedProps {
  readonly job: Job;
  readonly before: readonly Job[];
}

/** Why it ended, and what to do next. */
function Ended({ job, before }: EndedProps) {
  const reason = before.length === 0 ? job.reason : (before[0]?.reason ?? "");
  return (
    <p className={`run-explanation is-${job.state}`}>
      {before.length > 0
        ? t("watch.notStarted", { command: before[0]?.command ?? "", reason: reason || "?" })
        : job.state === "lost"
          ? t("watch.lost.noState")
          : t("watch.failed", { reason: reason || "?" })}{" "}
      {t("watch.next")}{" "}
      <a href={formatRoute(before.length > 0 ? "plan" : "train")}>
        {t(before.length > 0 ? "tab.plan" : "tab.train")}
      </a>
    </p>
  );
}

function StopPending({ job }: { readonly job: Job }) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  const chain = chainsOf(useStudioState(({ jobs }) => jobs)).find(({ last }) => last.id === job.id);
  const isQueued = job.state === "queued" && chain;
  return (
    <button
      type="button"
      disabled={readOnly || job.state === "stopping"}
      onClick={() =>
        void studio.act(
          isQueued
            ? removeParts(chain, (id) => studio.api.remove(id))
            : studio.api.stop(job.id, "now"),
        )
      }
    >
      {t(isQueued ? "jobs.remove" : "watch.stopNow.encoding")}
    </button>
  );
}
