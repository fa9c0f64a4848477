/** The runs on the left: which one is open, which ones are in its chart, and the queue. */

import { percent, t } from "../../i18n";
import { LineSample } from "../../parts/chart/Chart";
import { isRunning, type Job, type Run } from "../../studio/api";
import { chainsOf, queueOf } from "../../studio/chains";
import { useStudio, useStudioState } from "../../studio/context";
import { formatRoute } from "../../studio/route";
import { RunMark } from "./RunMark";

interface RunListProps {
  readonly runs: readonly Run[];
  /** Trainings that have no run yet. */
  readonly pending: readonly Job[];
  /** The id of a run, or of a job without one. */
  readonly selected: string;
  /** In the chart, in the order of their looks. */
  readonly compared?: readonly string[];
  /** Without it there is no chart to show them in. */
  readonly onCompare?: (id: string) => void;
}

export function RunList({ runs, pending, selected, compared = [], onCompare }: RunListProps) {
  const studio = useStudio();
  const jobs = useStudioState((state) => state.jobs);
  const queue = queueOf(chainsOf(jobs));
  const waiting = new Set(queue.map(({ last }) => last.id));
  const pendingRow = (job: Job) => (
    <a href={formatRoute("watch", job.id)} aria-current={job.id === selected ? "true" : undefined}>
      <RunMark state={job.state} />
      <span className="run-name">{job.title || t("tab.train")}</span>
    </a>
  );
  return (
    <div className="watch-runs">
      <h2 className="column-title">{t("watch.runs")}</h2>
      <ul>
        {pending
          .filter(({ id }) => !waiting.has(id))
          .map((job) => (
            <li key={job.id} className={job.id === selected ? "run-row selected" : "run-row"}>
              {pendingRow(job)}
            </li>
          ))}
        {runs.map((run) => (
          <li key={run.id} className={run.id === selected ? "run-row selected" : "run-row"}>
            <a
              href={formatRoute("watch", run.id)}
              aria-current={run.id === selected ? "true" : undefined}
            >
              <RunMark state={run.state} />
              <span className="run-name">{run.name}</span>
              <span className="number muted small">{aside(run)}</span>
            </a>
            {run.id === selected ? (
              <span className="run-look">
                <LineSample look={1} />
              </span>
            ) : onCompare ? (
              <label className="run-look" title={t("watch.compare", { name: run.name })}>
                <input
                  type="checkbox"
                  aria-label={t("watch.compare", { name: run.name })}
                  checked={compared.includes(run.id)}
                  onChange={() => onCompare(run.id)}
                />
                {compared.includes(run.id) ? (
                  <LineSample look={compared.indexOf(run.id) + 1} />
                ) : null}
              </label>
            ) : null}
          </li>
        ))}
      </ul>
      {queue.length ? (
        <>
          <h2 className="column-title">{t("jobs.queue")}</h2>
          <ol>
            {queue.map(({ last: job }, at) => (
              <li key={job.id} className={job.id === selected ? "run-row selected" : "run-row"}>
                {pending.includes(job) ? (
                  pendingRow(job)
                ) : (
                  <span>
                    <RunMark state={job.state} />
                    <span className="run-name">{job.title || job.verb}</span>
                  </span>
                )}
                <span className="run-aside number muted small">
                  {job.held ? t("jobs.held") : at + 1}
                </span>
              </li>
            ))}
          </ol>
          <p className="watch-queue-edit">
            <button type="button" onClick={() => studio.store.set({ overlay: "jobs" })}>
              {t("jobs.edit")} <kbd>q</kbd>
            </button>
          </p>
        </>
      ) : null}
    </div>
  );
}

function aside(run: Run): string {
  if (isRunning(run)) {
    return run.steps ? percent(run.step / run.steps) : "";
  }
  return "";
}
