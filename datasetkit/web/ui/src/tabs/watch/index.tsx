/** The tab Watch: the runs of the project, their numbers as they come, their preview images. */

import "./style.css";
import { useEffect, useMemo, useState } from "react";
import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";
import { Store, useStore } from "../../store";
import { isRunning, type Job, type Run, type RunDetails, type StudioApi } from "../../studio/api";
import { useCommand, useFiles, useStudio, useStudioState } from "../../studio/context";
import { routeStore } from "../../studio/route";
import { Charts } from "./Charts";
import { MetricsStore } from "./metrics";
import { Previews } from "./Previews";
import { jobToRead, openIn, pendingJobs } from "./pending";
import { PendingRun } from "./PendingRun";
import { newestState, RunHeader } from "./RunHeader";
import { RunList } from "./RunList";
import { RunNotes } from "./RunNotes";

interface Compared {
  /** Runs in the chart besides the one that is open. */
  readonly ids: readonly string[];
}

const compared = new Store<Compared>({ ids: [] });
let metrics: MetricsStore | null = null;
/** So many colors and dashes can be distinguished. */
export const MAX_LINES = 8;

function metricsOf(api: StudioApi): MetricsStore {
  metrics ??= new MetricsStore(api);
  return metrics;
}

export default function Watch() {
  const runs = useStudioState((state) => state.runs);
  const jobs = useStudioState((state) => state.jobs);
  const wanted = useStore(routeStore, (route) => route.rest);
  if (runs === null) return <WorkArea>{null}</WorkArea>;
  const pending = pendingJobs(jobs, runs);
  const { run, job } = openIn(wanted, jobs, runs, pending);
  if (job) return <WatchPending job={job} pending={pending} runs={runs} />;
  if (!run) {
    return (
      <WorkArea>
        <EmptyState
          title={t("watch.empty")}
          hint={t("watch.empty.hint")}
          question={t("watch.question")}
          answer={t("watch.answer")}
          next="train"
        />
      </WorkArea>
    );
  }
  return <WatchRun key={run.id} run={run} pending={pending} runs={runs} />;
}

interface WatchPendingProps {
  readonly job: Job;
  readonly pending: readonly Job[];
  readonly runs: readonly Run[];
}

function WatchPending({ job, pending, runs }: WatchPendingProps) {
  const studio = useStudio();
  const toRead = useStudioState((state) => jobToRead(job, state.jobs));
  useCommand(job.command);
  useEffect(() => studio.events.want({ runs: [], logs: [toRead] }), [studio, toRead]);
  return (
    <WorkArea left={<RunList runs={runs} pending={pending} selected={job.id} />}>
      <PendingRun key={job.id} job={job} />
    </WorkArea>
  );
}

interface WatchRunProps {
  readonly run: Run;
  readonly pending: readonly Job[];
  readonly runs: readonly Run[];
}

function WatchRun({ run, pending, runs }: WatchRunProps) {
  const studio = useStudio();
  const others = useStore(compared, (state) => state.ids).filter(
    (id) => id !== run.id && runs.some((known) => known.id === id),
  );
  const ids = useMemo(() => [run.id, ...others], [run.id, others.join(" ")]);
  const loaded = metricsOf(studio.api);
  const details = useDetails(run, others[0]);
  const live = isRunning(run);
  const command = useStudioState((state) => state.jobs).find(({ id }) => id === run.job)?.command;
  useCommand(command ?? "dsk train");

  useEffect(() => {
    const stopEvents = studio.events.on((event) => loaded.onEvent(event));
    const stopWanting = studio.events.want({ runs: ids, logs: live && run.job ? [run.job] : [] });
    loaded.load(ids).catch((error: unknown) => studio.fail(error));
    return () => {
      stopWanting();
      stopEvents();
    };
  }, [studio, loaded, ids, live, run.job]);

  const shownRuns = ids.map((id) => runs.find((known) => known.id === id)).filter((r) => !!r);
  return (
    <WorkArea
      left={
        <RunList
          runs={runs}
          pending={pending}
          selected={run.id}
          compared={ids}
          onCompare={(id) =>
            compared.set({
              ids: others.includes(id)
                ? others.filter((other) => other !== id)
                : [...others, id].slice(0, MAX_LINES - 1),
            })
          }
        />
      }
    >
      <div className="watch">
        <RunHeader
          run={run}
          state={newestState(details.run)}
          hasPrompts={Boolean(details.run?.options["sample_prompts"])}
        />
        <Charts runs={shownRuns} metrics={loaded} />
        <Previews run={run} />
        <RunNotes run={run} details={details.run} other={details.other} />
      </div>
    </WorkArea>
  );
}

/** The details of a run, and of the one that it is compared with. */
function useDetails(run: Run, otherId: string | undefined) {
  const studio = useStudio();
  const [details, setDetails] = useState<{
    readonly run: RunDetails | null;
    readonly other: RunDetails | null;
  }>({ run: null, other: null });
  const [version, setVersion] = useState(0);
  useFiles("outputs", () => setVersion((before) => before + 1));
  useEffect(() => {
    let current = true;
    Promise.all([studio.api.run(run.id), otherId ? studio.api.run(otherId) : null])
      .then(([own, other]) => current && setDetails({ run: own, other }))
      .catch((error: unknown) => studio.fail(error));
    return () => {
      current = false;
    };
  }, [studio, run.id, run.state, run.epoch, otherId, version]);
  return details;
}
