/** The button that searches the learning rate: `dsk find-lr --write` as a job, and how far it is. */

import { isRunning } from "../../studio/api";
import { duration, t } from "../../i18n";
import { useStudio, useStudioState } from "../../studio/context";
import type { TrainForm } from "./form";

/** Its result is written into dsk.toml, from where the form shows it. */
const COMMAND = { verb: "find-lr", options: { write: true } } as const;

export function FindRate({ form, base }: { readonly form: TrainForm; readonly base: string }) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  const jobs = useStudioState((state) => state.jobs).filter(
    (job) => job.verb === "find-lr" && job.here,
  );
  const waiting = jobs.find(({ state }) => state === "queued");
  const running = jobs.find(isRunning);
  const job = running ?? waiting;
  if (job) {
    const progress = job.progress;
    const left = progress?.seconds_left ?? null;
    return (
      <span className="find-rate" role="status">
        {running ? (progress?.phase ?? t("train.find.running")) : t("train.find.queued")}
        {progress && progress.of > 0
          ? ` ${t("jobs.of", { done: progress.done, of: progress.of })}`
          : ""}
        {left === null ? "" : ` · ${t("jobs.left", { time: duration(left) })}`}{" "}
        <button
          type="button"
          className="plain tiny"
          disabled={readOnly || job.state === "stopping"}
          onClick={() =>
            void studio.act(running ? studio.api.stop(job.id, "now") : studio.api.remove(job.id))
          }
        >
          {t("jobs.stop")}
        </button>
      </span>
    );
  }
  const start = async () => {
    // The search is for what the form shows.
    await form.save();
    if (form.isSaved) await studio.act(studio.api.start(COMMAND, "now"));
  };
  return (
    <button
      type="button"
      className="find-rate"
      disabled={readOnly || base === ""}
      title={t("train.find.hint")}
      onClick={() => void start()}
    >
      {t("train.find")}
    </button>
  );
}
