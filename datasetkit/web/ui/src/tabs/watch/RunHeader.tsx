/** How far a run is, and what can be done with it: stop in three steps, resume, start again. */

import { useEffect, useState } from "react";
import { bytes, duration, moment, number, serverText, t } from "../../i18n";
import { Bar } from "../../parts/JobBar";
import { isRunning, type Job, type Run, type RunDetails } from "../../studio/api";
import { useStudio, useStudioState } from "../../studio/context";
import { formatRoute, go } from "../../studio/route";
import { RunMark } from "./RunMark";

/** Seconds without an end, after which a run that was asked to stop can be ended at once, and so
 * many after which its process can be killed. */
const PATIENCE = 30;
const LAST_PATIENCE = 90;

interface RunProps {
  readonly run: Run;
  /** The step of the newest training state; null where there is none, or it is not known yet. */
  readonly state: number | null;
}

/** The step of the newest training state of a run. */
export function newestState(details: RunDetails | null): number | null {
  const steps = (details?.files ?? [])
    .filter(({ kind, step }) => kind === "state" && step !== null)
    .map(({ step }) => step ?? 0);
  return steps.length ? Math.max(...steps) : null;
}

interface HeaderProps extends RunProps {
  /** The run has prompts for preview images. */
  readonly hasPrompts: boolean;
}

export function RunHeader({ run, state, hasPrompts }: HeaderProps) {
  const job = useStudioState((state) => state.jobs).find(({ id }) => id === run.job);
  const live = isRunning(run);
  const phase = live && job?.progress && run.step === 0 ? serverText(job.progress.phase) : "";
  const steps = run.steps ?? 0;
  const left = job?.progress?.seconds_left ?? run.seconds_left;
  return (
    <header className="run-header">
      <div className="run-title">
        <RunMark state={run.state} />
        <h2>{run.name}</h2>
        <span className="run-step">{phase || t("watch.step", { step: run.step, steps })}</span>
        {run.epoch !== null && run.epochs !== null ? (
          <span className="muted">
            {t("watch.epoch", { epoch: run.epoch, epochs: run.epochs })}
          </span>
        ) : null}
        <span className="run-facts muted">
          {live && left != null ? <span>{t("watch.left", { time: duration(left) })}</span> : null}
          {run.seconds_per_step != null ? (
            <span>
              {t("watch.perStep", {
                seconds: number(run.seconds_per_step, { maximumSignificantDigits: 2 }),
              })}
            </span>
          ) : null}
          {run.memory ? <span>{t("watch.memory", { size: bytes(run.memory) })}</span> : null}
          {!live && run.ended ? <span>{moment(Date.parse(run.ended) / 1000)}</span> : null}
        </span>
        <Actions run={run} state={state} job={job} hasPrompts={hasPrompts} />
      </div>
      <Bar
        share={steps > 0 ? Math.min(1, run.step / steps) : null}
        label={t("jobs.progress", { title: run.name })}
      />
      <Explanation run={run} state={state} reason={job?.reason ?? ""} />
    </header>
  );
}

function Explanation({ run, state, reason }: RunProps & { readonly reason: string }) {
  let text = "";
  if (run.state === "failed") text = t("watch.failed", { reason: reason || "?" });
  else if (run.state === "lost") {
    text = state === null ? t("watch.lost.noState") : t("watch.lost", { step: state });
  } else if (run.state === "stopped" && state !== null) {
    text = t("watch.stopped", { step: state });
  }
  return text ? <p className={`run-explanation is-${run.state}`}>{text}</p> : null;
}

function Actions({ run, state, job, hasPrompts }: HeaderProps & { readonly job: Job | undefined }) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  if (isRunning(run)) {
    return job ? (
      <span className="run-actions">
        {run.state === "running" && run.step > 0 ? (
          <Asking job={job} hasPrompts={hasPrompts} readOnly={readOnly} />
        ) : null}
        <StopLadder run={run} state={state} job={job} readOnly={readOnly} />
      </span>
    ) : null;
  }
  const canResume = run.state !== "finished" && state !== null && run.job !== null;
  return (
    <span className="run-actions">
      {canResume ? (
        <button
          type="button"
          disabled={readOnly}
          onClick={() => void studio.act(studio.api.resume(run.job ?? ""))}
        >
          {t("watch.resume", { step: state ?? 0 })}
        </button>
      ) : (
        <a href={formatRoute("train")}>{t("watch.again")}</a>
      )}
      {run.state === "finished" ? (
        <button type="button" className="primary" onClick={() => go("compare")}>
          {t("tour.next", { tab: t("tab.compare") })}
        </button>
      ) : null}
    </span>
  );
}

interface AskingProps {
  readonly job: Job;
  readonly hasPrompts: boolean;
  readonly readOnly: boolean;
}

/** What the run does after its step, and goes on: preview images, a LoRA with its state. */
function Asking({ job, hasPrompts, readOnly }: AskingProps) {
  const studio = useStudio();
  return (["preview", "save"] as const).map((action) => {
    const pending = job.asked?.includes(action) ?? false;
    const missing = action === "preview" && !hasPrompts;
    return (
      <button
        key={action}
        type="button"
        disabled={readOnly || pending || missing}
        title={missing ? t("watch.previews.none") : t(`watch.ask.${action}.hint`)}
        onClick={() => void studio.act(studio.api.ask(job.id, action))}
      >
        {pending ? t("watch.asked") : t(`watch.ask.${action}`)}
      </button>
    );
  });
}

interface StopProps extends RunProps {
  readonly job: Job;
  readonly readOnly: boolean;
}

/** Stop and save; while it saves, say so; if it does not end, offer to end it at once. */
function StopLadder({ run, state, job, readOnly }: StopProps) {
  const studio = useStudio();
  const stopping = job.state === "stopping" || run.state === "stopping";
  const waited = useSecondsSince(stopping, job.stop?.seconds ?? 0);
  if (!stopping) {
    return (
      <button
        type="button"
        disabled={readOnly}
        title={t("watch.stopHint")}
        onClick={() => void studio.act(studio.api.stop(job.id, "save"))}
      >
        {t("watch.stop")}
      </button>
    );
  }
  const lost = run.step - (state ?? 0);
  return (
    <span className="run-actions">
      <span role="status">{t("watch.stopping", { step: run.step })}</span>
      {waited >= PATIENCE ? (
        <button
          type="button"
          className="danger"
          disabled={readOnly}
          onClick={() => void studio.act(studio.api.stop(job.id, "now"))}
        >
          {lost > 0 ? t("watch.stopNow", { n: lost }) : t("watch.stopNow.encoding")}
        </button>
      ) : null}
      {waited >= LAST_PATIENCE ? (
        <button
          type="button"
          className="danger"
          disabled={readOnly}
          onClick={() => void studio.act(studio.api.stop(job.id, "kill"))}
        >
          {t("watch.kill")}
        </button>
      ) : null}
    </span>
  );
}

/** Seconds since something began, counted on here. */
function useSecondsSince(active: boolean, already: number): number {
  const [seconds, setSeconds] = useState(already);
  useEffect(() => {
    if (!active) return;
    const began = Date.now() - already * 1000;
    const timer = setInterval(() => setSeconds((Date.now() - began) / 1000), 1000);
    setSeconds(already);
    return () => clearInterval(timer);
  }, [active, already]);
  return active ? seconds : 0;
}
