/** How far a job is: a bar with its text, read aloud at each tenth and at the end. */

import { useEffect, useRef, useState } from "react";
import { duration, percent, serverText, t } from "../i18n";
import type { Job } from "../studio/api";

export function JobBar({ job }: { readonly job: Job }) {
  const { progress } = job;
  const share = shareOf(job);
  return (
    <div className="job-bar">
      <Bar share={share} label={t("jobs.progress", { title: job.title || job.verb })} />
      <p className="small muted">
        {job.state === "stopping" ? t("job.state.stopping") : serverText(progress?.phase ?? "")}
        {progress && progress.of > 0
          ? ` · ${t("jobs.of", { done: progress.done, of: progress.of })}`
          : ""}
        {progress?.seconds_left != null
          ? ` · ${t("jobs.left", { time: duration(progress.seconds_left) })}`
          : ""}
      </p>
    </div>
  );
}

export function shareOf({ progress }: Pick<Job, "progress">): number | null {
  return progress && progress.of > 0 ? Math.min(1, progress.done / progress.of) : null;
}

/** A bar with its share as text for screen readers. Null: it is not known how far. */
export function Bar({ share, label }: { readonly share: number | null; readonly label: string }) {
  return (
    <>
      <div
        className={share === null ? "bar unknown" : "bar"}
        role="progressbar"
        aria-label={label}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={share === null ? undefined : Math.round(share * 100)}
        aria-valuetext={share === null ? undefined : percent(share)}
      >
        <span style={{ width: `${((share ?? 0.3) * 100).toFixed(1)}%` }} />
      </div>
      <Announced share={share} label={label} />
    </>
  );
}

function Announced({ share, label }: { readonly share: number | null; readonly label: string }) {
  const tenth = share === null ? null : Math.floor(share * 10);
  const before = useRef(tenth);
  const [text, setText] = useState("");
  useEffect(() => {
    if (tenth !== null && tenth !== before.current) setText(`${label}: ${percent(tenth / 10)}`);
    before.current = tenth;
  }, [tenth, label]);
  return (
    <span className="visually-hidden" aria-live="polite">
      {text}
    </span>
  );
}
