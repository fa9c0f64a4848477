/** Below the images: the options that differ from another run, and the log. */

import { useEffect, useState } from "react";
import { Icon } from "../../components/Icon";
import { t } from "../../i18n";
import { addText, type LogText, NO_LOG } from "../../parts/log";
import { Log } from "../../parts/Log";
import type { Run, RunDetails } from "../../studio/api";
import { useStudio } from "../../studio/context";
import { formatRoute } from "../../studio/route";
import { differences, shown } from "./differences";

interface RunNotesProps {
  readonly run: Run;
  readonly details: RunDetails | null;
  readonly other: RunDetails | null;
}

export function RunNotes({ run, details, other }: RunNotesProps) {
  const [open, setOpen] = useState(false);
  const log = useLog(run.job);
  const unused = Object.keys(details?.differs ?? {}).length;
  const last = log.lines[log.lines.length - 1] ?? "";
  return (
    <section className="run-notes">
      {details && other ? <Differences details={details} other={other} /> : null}
      {unused > 0 ? (
        <p className="differences">
          <a href={formatRoute("train")}>{t("watch.formDiffers", { n: unused })}</a>
        </p>
      ) : null}
      <button
        type="button"
        className="plain log-toggle"
        aria-expanded={open}
        onClick={() => setOpen(!open)}
      >
        <Icon name={open ? "down" : "right"} /> {t("watch.log")}
        <span className="muted mono">{open ? "" : last || t("watch.log.none")}</span>
      </button>
      {open ? <Log log={log} label={t("watch.log.label", { name: run.name })} /> : null}
    </section>
  );
}

interface DifferencesProps {
  readonly details: RunDetails;
  readonly other: RunDetails;
}

function Differences({ details, other }: DifferencesProps) {
  const changed = differences(details.options, other.options);
  const { name } = other.run;
  return (
    <p className="differences">
      {changed.length === 0 ? t("watch.differs.none", { name }) : t("watch.differs", { name })}
      {changed.map(({ name: option, value, other: theirs }) => (
        <span key={option} className="difference-value">
          <code>{option}</code> <b>{shown(value)}</b>{" "}
          <span className="muted">({shown(theirs)})</span>
        </span>
      ))}
    </p>
  );
}

/** The log of a job, and what events add to it. */
export function useLog(job: string | null): LogText {
  const studio = useStudio();
  const [log, setLog] = useState<LogText>(NO_LOG);
  useEffect(() => {
    setLog(NO_LOG);
    if (job === null) return;
    let current = true;
    let end = 0;
    studio.api
      .jobLog(job)
      .then(({ log: text }) => current && end === 0 && setLog(addText(NO_LOG, text)))
      // A run that a terminal started prints there.
      .catch(() => {});
    const stop = studio.events.on(({ type, data }) => {
      if (type !== "log" || data["job"] !== job || Number(data["to"]) <= end) return;
      end = Number(data["to"]);
      setLog((before) => addText(before, String(data["text"] ?? "")));
    });
    return () => {
      current = false;
      stop();
    };
  }, [studio, job]);
  return log;
}
