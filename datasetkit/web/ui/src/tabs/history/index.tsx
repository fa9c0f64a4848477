/** The tab History: what was done, what it changed, and the way back. */

import { useCallback, useEffect, useState } from "react";
import { ApiError, isMissing } from "../../http";
import { moment, number, t } from "../../i18n";
import { CommandLine } from "../../parts/CommandLine";
import { Close, Dialog } from "../../parts/Dialog";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";
import { Loading } from "../../parts/Loading";
import { useStudio, useStudioState } from "../../studio/context";
import { type HistoryEntry, undoneWith } from "./entries";
import "./history.css";

interface History {
  readonly entries: readonly HistoryEntry[];
}

interface UndoPlan {
  readonly entries: readonly Pick<HistoryEntry, "id" | "verb" | "title">[];
  readonly refused: readonly string[];
}

let last: History | null = null;

export default function HistoryTab() {
  const studio = useStudio();
  const project = useStudioState((state) => state.project);
  const readOnly = useStudioState((state) => state.session.read_only);
  const [history, setHistory] = useState(last);
  const [open, setOpen] = useState<number | null>(null);
  const [back, setBack] = useState<HistoryEntry | null>(null);
  last = history;

  const load = useCallback(async () => {
    try {
      setHistory(await studio.http.get<History>("api/history"));
    } catch (error) {
      setHistory({ entries: [] });
      if (!isMissing(error)) studio.fail(error);
    }
  }, [studio]);
  useEffect(() => void load(), [load, project]);

  if (history === null) return <Loading />;
  if (history.entries.length === 0) {
    return (
      <WorkArea>
        <EmptyState
          title={t("history.empty")}
          hint={t("history.empty.hint")}
          question={t("history.question")}
          answer={t("history.answer")}
          next="images"
        />
      </WorkArea>
    );
  }
  return (
    <WorkArea>
      <div className="history">
        <table>
          <thead>
            <tr>
              <th scope="col">{t("history.when")}</th>
              <th scope="col">{t("history.command")}</th>
              <th scope="col">{t("history.what")}</th>
              <th scope="col" className="number">
                {t("history.operations")}
              </th>
              <td />
            </tr>
          </thead>
          <tbody>
            {history.entries.map((entry) => (
              <Entry
                key={entry.id}
                entry={entry}
                open={open === entry.id}
                toggle={() => setOpen(open === entry.id ? null : entry.id)}
                undo={readOnly ? null : () => setBack(entry)}
              />
            ))}
          </tbody>
        </table>
      </div>
      {back ? (
        <UndoDialog
          entry={back}
          entries={history.entries}
          close={() => setBack(null)}
          done={load}
        />
      ) : null}
    </WorkArea>
  );
}

interface EntryProps {
  readonly entry: HistoryEntry;
  readonly open: boolean;
  readonly toggle: () => void;
  readonly undo: (() => void) | null;
}

function Entry({ entry, open, toggle, undo }: EntryProps) {
  const state = entry.open ? t("history.open") : entry.undone ? t("history.undone") : "";
  return (
    <>
      <tr className={entry.undone ? "undone" : ""}>
        <td className="muted">{moment(entry.time)}</td>
        <td>
          <code>{entry.verb}</code>
        </td>
        <th scope="row">
          {entry.title} {state ? <span className="badge">{state}</span> : null}
        </th>
        <td className="number">{entry.operations === undefined ? "" : number(entry.operations)}</td>
        <td className="history-buttons">
          <button type="button" className="plain" aria-expanded={open} onClick={toggle}>
            {t("history.changes")}
          </button>
          {undo && !entry.undone && !entry.open ? (
            <button type="button" onClick={undo}>
              {t("history.undo")}
            </button>
          ) : null}
        </td>
      </tr>
      {open ? (
        <tr className="history-changes">
          <td colSpan={5}>
            <Changes entry={entry.id} />
          </td>
        </tr>
      ) : null}
    </>
  );
}

/** What an entry changed, file by file. */
function Changes({ entry }: { readonly entry: number }) {
  const studio = useStudio();
  const [changes, setChanges] = useState<readonly string[] | null>(null);
  const [total, setTotal] = useState(0);
  useEffect(() => {
    studio.http
      .get<{ readonly changes: readonly string[]; readonly total: number }>(`api/history/${entry}`)
      .then(
        (all) => {
          setChanges(all.changes);
          setTotal(all.total);
        },
        (error: unknown) => {
          setChanges([]);
          if (!isMissing(error)) studio.fail(error);
        },
      );
  }, [studio, entry]);
  if (changes === null) return <p className="muted">{t("loading")}</p>;
  return (
    <ul className="changes" tabIndex={0} aria-label={t("history.changes")}>
      {changes.map((change, n) => (
        <li key={n}>{change}</li>
      ))}
      {total > changes.length ? <li>{t("history.more", { n: total - changes.length })}</li> : null}
    </ul>
  );
}

interface UndoDialogProps {
  readonly entry: HistoryEntry;
  readonly entries: readonly HistoryEntry[];
  readonly close: () => void;
  readonly done: () => Promise<void>;
}

function UndoDialog({ entry, entries, close, done }: UndoDialogProps) {
  const studio = useStudio();
  const [plan, setPlan] = useState<UndoPlan | null>(null);
  const [problem, setProblem] = useState("");
  // The server knows better what an undo of an undo takes back.
  const taken = plan?.entries ?? undoneWith(entries, entry.id);
  const send = (dryRun: boolean): Promise<UndoPlan> =>
    studio.http.post<UndoPlan>("api/history/undo", {
      entry: entry.id,
      partial: false,
      dry_run: dryRun,
    });
  const fail = (error: unknown) => {
    if (!(error instanceof ApiError)) throw error;
    setProblem(`${error.message}. ${error.hint}`);
  };
  useEffect(() => {
    send(true).then(setPlan, fail);
  }, []);
  const start = async () => {
    try {
      await send(false);
      studio.done(t("history.undone.count", { n: taken.length }));
      close();
      await done();
      await studio.refresh();
    } catch (error) {
      fail(error);
    }
  };
  return (
    <Dialog label={t("history.undo")} close={close}>
      <header>
        <h2>{t("history.undo.title", { title: entry.title })}</h2>
      </header>
      <p>{t("history.undo.what", { n: taken.length })}</p>
      <ul className="changes">
        {taken.map((item) => (
          <li key={item.id}>
            <code>{item.verb}</code> {item.title}
          </li>
        ))}
      </ul>
      {problem ? (
        <p className="error-text" role="alert">
          {problem}
        </p>
      ) : null}
      <CommandLine command={`dsk undo --to ${entry.id}`} />
      <footer>
        <button
          type="button"
          className="primary"
          disabled={plan === null || problem !== ""}
          onClick={() => void start()}
        >
          {t("history.undo.start", { n: taken.length })}
        </button>
        <Close close={close} cancel />
      </footer>
    </Dialog>
  );
}
