/** Jobs and queue: a button in the top band, and a dialog that stops, reorders and removes. */

import { Icon } from "../components/Icon";
import { t } from "../i18n";
import { Close, Dialog } from "../parts/Dialog";
import { JobBar } from "../parts/JobBar";
import { isRunning, type Job } from "./api";
import {
  type Chain,
  chainsOf,
  inTurn,
  isChainActive,
  movesTo,
  queuedParts,
  queueOf,
  removeParts,
} from "./chains";
import { useStudio, useStudioState } from "./context";
import { go } from "./route";

export function JobsButton() {
  const studio = useStudio();
  const jobs = useStudioState((state) => state.jobs);
  const active = chainsOf(jobs).filter(isChainActive).length;
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
  const chains = chainsOf(jobs);
  const running = chains.filter(({ now }) => isRunning(now));
  const ended = chains.filter((chain) => !isChainActive(chain)).slice(0, 12);
  return (
    <Dialog label={t("jobs.title")} close={close}>
      <header>
        <h2>{t("jobs.title")}</h2>
        <Close close={close} />
      </header>
      {jobs.length === 0 ? (
        <p className="muted">
          {t("jobs.none")} {t("jobs.none.hint")}
        </p>
      ) : null}
      <div className="job-lists">
        <Section title={t("jobs.running")} chains={running} />
        <Queue chains={queueOf(chains)} />
        <Section title={t("jobs.ended")} chains={ended} />
      </div>
    </Dialog>
  );
}

interface SectionProps {
  readonly title: string;
  readonly chains: readonly Chain[];
}

function Section({ title, chains }: SectionProps) {
  if (chains.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      <ul>
        {chains.map((chain) => (
          <li key={chain.last.id}>
            <JobRow chain={chain} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function JobRow({ chain }: { readonly chain: Chain }) {
  const job = chain.now;
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  return (
    <div className="job-row">
      <div className="job-name">
        <b>{chain.last.title || chain.last.verb}</b> <JobState job={job} />
        {job.reason && !isRunning(job) && job.state !== "done" ? (
          <p className="small muted">{job.reason}</p>
        ) : null}
        {isRunning(job) ? <JobBar job={job} /> : null}
        <Parts chain={chain} />
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

/** The commands of a chain, each with its state. */
function Parts({ chain: { parts } }: { readonly chain: Chain }) {
  if (parts.length < 2) return null;
  const done = parts.filter(({ state }) => state === "done").length;
  return (
    <details className="small muted">
      <summary>
        {parts.map(({ verb }) => verb).join(" → ")} · {t("jobs.of", { done, of: parts.length })}
      </summary>
      <ol>
        {parts.map((job) => (
          <li key={job.id}>
            <code>{job.command}</code> <JobState job={job} />
          </li>
        ))}
      </ol>
    </details>
  );
}

/** The state of a job as a shape and a word. */
export function JobState({ job }: { readonly job: Pick<Job, "state"> }) {
  return <span className={`state-word is-${job.state}`}>{t(`job.state.${job.state}`)}</span>;
}

function Queue({ chains }: { readonly chains: readonly Chain[] }) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  if (chains.length === 0) return null;
  return (
    <section>
      <h3>{t("jobs.queue")}</h3>
      <ol>
        {chains.map((chain, at) => {
          const { title, verb, id, held } = chain.last;
          const waiting = queuedParts(chain);
          return (
            <li key={id} className="job-row">
              <span className="number muted">{at + 1}</span>
              <div className="job-name">
                <b>{title || verb}</b>
                <Parts chain={chain} />
              </div>
              {(
                [
                  ["up", "jobs.earlier", chains[at - 1]],
                  ["down", "jobs.later", chains[at + 1]],
                ] as const
              ).map(([icon, label, other]) => (
                <button
                  key={icon}
                  type="button"
                  className="plain icon-only"
                  aria-label={`${t(label)}: ${title || verb}`}
                  title={t(label)}
                  disabled={readOnly || !other}
                  onClick={() =>
                    other &&
                    void studio.act(
                      inTurn(movesTo(chain, other), (move) =>
                        studio.api.order(move.id, move.place),
                      ),
                    )
                  }
                >
                  <Icon name={icon} />
                </button>
              ))}
              <button
                type="button"
                disabled={readOnly}
                aria-pressed={held}
                onClick={() =>
                  void studio.act(inTurn(waiting, (part) => studio.api.hold(part.id, !held)))
                }
              >
                {t(held ? "jobs.release" : "jobs.hold")}
              </button>
              <button
                type="button"
                disabled={readOnly}
                onClick={() => void studio.act(removeParts(chain, (id) => studio.api.remove(id)))}
              >
                {t("jobs.remove")}
              </button>
            </li>
          );
        })}
      </ol>
    </section>
  );
}
