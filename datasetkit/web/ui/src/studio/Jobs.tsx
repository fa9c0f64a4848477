/** Jobs and queue: a button in the top band, and a dialog that stops, reorders and removes. */

import { Icon } from "../components/Icon";
import { t } from "../i18n";
import { Dialog } from "../parts/Dialog";
import { JobBar } from "../parts/JobBar";
import { isActive, isRunning, type Job } from "./api";
import { useStudio, useStudioState } from "./context";
import { go } from "./route";

export function JobsButton() {
  const studio = useStudio();
  const jobs = useStudioState((state) => state.jobs);
  const active = jobs.filter(isActive).length;
  return (
    <button
      type="button"
      className="plain jobs-button"
      title={`${t("jobs.title")} (q)`}
      aria-haspopup="dialog"
      onClick={() => studio.store.set({ overlay: "jobs" })}
    >
      <Icon name="jobs" />
      <span className="word">{t("jobs.button")}</span>{" "}
      <b className={active ? "count active" : "count"}>{active}</b>
    </button>
  );
}

export function JobsDialog({ close }: { readonly close: () => void }) {
  const jobs = useStudioState((state) => state.jobs);
  const running = jobs.filter(isRunning);
  const queued = jobs.filter((job) => job.state === "queued").sort((a, b) => a.place - b.place);
  const ended = jobs.filter((job) => !isActive(job)).slice(0, 12);
  return (
    <Dialog label={t("jobs.title")} close={close}>
      <header>
        <h2>{t("jobs.title")}</h2>
        <p />
        <button type="button" onClick={close}>
          {t("close")} <kbd>Esc</kbd>
        </button>
      </header>
      {jobs.length === 0 ? (
        <p className="muted">
          {t("jobs.none")} {t("jobs.none.hint")}
        </p>
      ) : null}
      <div className="job-lists">
        <Section title={t("jobs.running")} jobs={running} />
        <Queue jobs={queued} />
        <Section title={t("jobs.ended")} jobs={ended} />
      </div>
    </Dialog>
  );
}

function Section({ title, jobs }: { readonly title: string; readonly jobs: readonly Job[] }) {
  if (jobs.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      <ul>
        {jobs.map((job) => (
          <li key={job.id}>
            <JobRow job={job} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function JobRow({ job }: { readonly job: Job }) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  return (
    <div className="job-row">
      <div className="job-name">
        <b>{job.title || job.verb}</b> <JobState job={job} />
        {job.reason && !isRunning(job) ? <p className="small muted">{job.reason}</p> : null}
        {isRunning(job) ? <JobBar job={job} /> : null}
      </div>
      {job.verb === "train" && isRunning(job) ? (
        <button
          type="button"
          onClick={() => {
            studio.store.set({ overlay: null });
            go("watch");
          }}
        >
          {t("tab.watch")}
        </button>
      ) : null}
      {isRunning(job) ? (
        <button
          type="button"
          disabled={readOnly || job.state === "stopping"}
          onClick={() => void studio.act(studio.api.stop(job.id, "save"))}
        >
          {t("jobs.stop")}
        </button>
      ) : null}
    </div>
  );
}

/** The state of a job as a shape and a word. */
export function JobState({ job }: { readonly job: Pick<Job, "state"> }) {
  return <span className={`state-word is-${job.state}`}>{t(`job.state.${job.state}`)}</span>;
}

export function Queue({ jobs }: { readonly jobs: readonly Job[] }) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  if (jobs.length === 0) return null;
  return (
    <section>
      <h3>{t("jobs.queue")}</h3>
      <ol>
        {jobs.map((job, at) => (
          <li key={job.id} className="job-row">
            <span className="number muted">{at + 1}</span>
            <b className="job-name">{job.title || job.verb}</b>
            {(
              [
                ["up", "jobs.earlier", at - 1],
                ["down", "jobs.later", at + 1],
              ] as const
            ).map(([icon, label, to]) => (
              <button
                key={icon}
                type="button"
                className="plain icon-only"
                aria-label={`${t(label)}: ${job.title}`}
                title={t(label)}
                disabled={readOnly || to < 0 || to >= jobs.length}
                onClick={() => void studio.act(studio.api.order(job.id, to + 1))}
              >
                <Icon name={icon} />
              </button>
            ))}
            <button
              type="button"
              disabled={readOnly}
              aria-pressed={job.held}
              onClick={() => void studio.act(studio.api.hold(job.id, !job.held))}
            >
              {t(job.held ? "jobs.release" : "jobs.hold")}
            </button>
            <button
              type="button"
              disabled={readOnly}
              onClick={() => void studio.act(studio.api.remove(job.id))}
            >
              {t("jobs.remove")}
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}
