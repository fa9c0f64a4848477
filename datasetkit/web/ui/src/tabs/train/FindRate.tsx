/** The button that searches the learning rate: `dsk find-lr --write` as a job, and how far it is. */

import { useEffect, useState } from "react";
import { isRunning } from "../../studio/api";
import { duration, serverText, t } from "../../i18n";
import { useStore } from "../../store";
import { useStudio, useStudioState } from "../../studio/context";
import type { TrainForm } from "./form";
import { paceOf } from "./plan";
import type { Planner } from "./planner";

/** Its result is written into dsk.toml, from where the form shows it. */
const COMMAND = { verb: "find-lr", options: { write: true } } as const;

/** What `dsk find-lr --dry-run` says of its cost. */
interface SearchOutput {
  readonly plan: {
    readonly cost: { readonly probe_steps: number; readonly sweep_steps: number };
  };
}

interface FindRateProps {
  readonly form: TrainForm;
  readonly planner: Planner;
  readonly base: string;
}

export function FindRate({ form, planner, base }: FindRateProps) {
  const search = useSearch(planner);
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
        {running
          ? serverText(progress?.phase ?? "") || t("train.find.running")
          : t("train.find.queued")}
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
      title={[t("train.find.hint"), search ? t("train.find.how", search.values) : ""].join(" ")}
      onClick={() => void start()}
    >
      {search ? t("train.find.time", { time: duration(search.seconds) }) : t("train.find")}
    </button>
  );
}

/** The steps of the search at most, and their time by the pace of an earlier run; null without. */
function useSearch(planner: Planner) {
  const studio = useStudio();
  const { plan, earlier } = useStore(planner.store, (state) => state);
  const [steps, setSteps] = useState<number | null>(null);
  const pace = plan && paceOf(plan, earlier);
  // Its cost follows from these: a new plan with the same ones needs no other dry run.
  const key = pace === null ? "" : JSON.stringify([plan?.rates, plan?.options["seed"]]);
  useEffect(() => {
    setSteps(null);
    if (key === "") return;
    const stop = new AbortController();
    studio.api.plan<SearchOutput>({ verb: "find-lr" }, stop.signal).then(
      ({ output }) => {
        const cost = output?.result.plan.cost;
        if (cost) setSteps(cost.probe_steps + cost.sweep_steps);
      },
      () => undefined, // without it the button has no time
    );
    return () => stop.abort();
  }, [studio, key]);
  if (steps === null || pace === null || earlier === null) return null;
  return { seconds: steps * pace, values: { n: steps, name: earlier.run.name } };
}
