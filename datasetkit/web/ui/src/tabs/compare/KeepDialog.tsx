/** "Keep this epoch": where to, under which name, and everything that will be written. */

import { useEffect, useState } from "react";
import { ApiError } from "../../http";
import { number, t } from "../../i18n";
import { CommandLine } from "../../parts/CommandLine";
import { Close, Dialog } from "../../parts/Dialog";
import { FolderField } from "../../parts/FolderField";
import { useStudio } from "../../studio/context";
import { keep, keepFolders, zipUrl } from "./api";
import { weightOf } from "./CompareView";
import { originOf } from "./joined";
import { labelText } from "./layout";
import type { Cell, Grid, KeepFolder, KeepResult, LoraFile } from "./shapes";

interface KeepDialogProps {
  readonly grid: Grid;
  readonly file: LoraFile;
  /** Its image becomes the preview. */
  readonly cell: Cell | undefined;
  readonly close: () => void;
  readonly kept: () => Promise<void>;
}

const DRY_RUN_DELAY = 300;

export function KeepDialog({ grid, file, cell, close, kept }: KeepDialogProps) {
  const studio = useStudio();
  const [folders, setFolders] = useState<readonly KeepFolder[]>([]);
  const [to, setTo] = useState("");
  const [name, setName] = useState(() => runName(file.name));
  const [weight, setWeight] = useState(String(weightOf(cell)));
  const [replace, setReplace] = useState(false);
  const [plan, setPlan] = useState<KeepResult | null>(null);
  const [problem, setProblem] = useState("");
  const [done, setDone] = useState<KeepResult | null>(null);
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    keepFolders(studio.http).then(
      ({ folders: remembered, default: inProject }) => {
        const first = { path: inProject, kind: t("compare.keep.project") };
        setFolders([...remembered.filter((folder) => folder.path !== inProject), first]);
        setTo((typed) => typed || (remembered[0]?.path ?? ""));
      },
      (error: unknown) => studio.fail(error),
    );
  }, [studio]);

  const request = {
    grid: originOf(grid, file).grid,
    file: originOf(grid, file).n,
    cell: cell ? originOf(grid, cell).n : null,
    options: { to, name, weight: Number(weight), replace },
  };
  useEffect(() => {
    setPlan(null);
    setProblem("");
    if (to === "" || name === "") return;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      keep(studio.http, request, true, stop.signal).then(setPlan, (error: unknown) => {
        if (error instanceof ApiError) setProblem(`${error.message}. ${error.hint}`);
        else if (!stop.signal.aborted) throw error;
      });
    }, DRY_RUN_DELAY);
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [studio, to, name, weight, replace]);

  const start = async () => {
    setBusy(true);
    try {
      const result = await keep(studio.http, request, false);
      setDone(result);
      studio.done(t("compare.kept.done", { name: result.file }), result.entry !== null);
      await kept();
      await studio.refresh();
    } catch (error) {
      if (error instanceof ApiError) setProblem(`${error.message}. ${error.hint}`);
      else throw error;
    } finally {
      setBusy(false);
    }
  };
  const title = t("compare.keep.title", { label: labelText(file.label) });
  if (done) {
    return (
      <Dialog label={title} close={close}>
        <header>
          <h2>{t("compare.kept.done", { name: done.file })}</h2>
        </header>
        <p>{t("compare.kept.prompt")}</p>
        <p className="compare-prompt">
          <code>{done.prompt}</code>
        </p>
        <p className="muted">
          {t("compare.kept.comfy", { file: baseName(done.file), weight: number(done.weight) })}
        </p>
        <Notes notes={done.notes} />
        <footer>
          <Close close={close} primary />
        </footer>
      </Dialog>
    );
  }
  return (
    <Dialog label={title} close={close}>
      <form
        className="keep-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (plan && !busy) void start();
        }}
      >
        <header>
          <h2>{title}</h2>
        </header>
        <FolderField
          label={t("compare.keep.to")}
          hint={t("compare.keep.to.hint")}
          value={to}
          setValue={setTo}
          suggestions={folders.map((folder) => ({ path: folder.path, note: folder.kind }))}
        />
        <p>
          <a download href={zipUrl(request)}>
            {t("compare.keep.zip")}
          </a>{" "}
          <span className="muted">{t("compare.keep.zip.hint")}</span>
        </p>
        <div className="keep-row">
          <label>
            {t("compare.keep.name")}
            <input
              type="text"
              value={name}
              spellCheck={false}
              onChange={(event) => setName(event.target.value)}
            />
          </label>
          <label>
            {t("compare.keep.weight")}
            <input
              type="text"
              inputMode="decimal"
              value={weight}
              onChange={(event) => setWeight(event.target.value)}
            />
          </label>
        </div>
        <label className="checkbox">
          <input
            type="checkbox"
            checked={replace}
            onChange={(event) => setReplace(event.target.checked)}
          />
          {t("compare.keep.replace")}
        </label>
        <div className="keep-plan" role="status">
          {problem ? <p className="error-text">{problem}</p> : null}
          {plan ? <PlanText plan={plan} /> : null}
          {!plan && !problem ? (
            <p className="muted">{to === "" ? t("compare.keep.choose") : t("loading")}</p>
          ) : null}
        </div>
        {plan ? <CommandLine command={plan.command} /> : null}
        <footer>
          <button type="submit" className="primary" disabled={!plan || busy}>
            {t("compare.keep.start", { name })}
          </button>
          <Close close={close} cancel />
        </footer>
      </form>
    </Dialog>
  );
}

function PlanText({ plan }: { readonly plan: KeepResult }) {
  const files = [plan.file, plan.preview, plan.json].filter(
    (file): file is string => file !== null,
  );
  return (
    <>
      <h3>{plan.state === "present" ? t("compare.keep.present") : t("compare.keep.writes")}</h3>
      <ul>
        {files.map((file) => (
          <li key={file}>
            <code>{file}</code>
            {plan.changed.includes(file) ? null : (
              <span className="muted"> {t("compare.keep.unchanged")}</span>
            )}
          </li>
        ))}
      </ul>
      <Notes notes={plan.notes} />
    </>
  );
}

function Notes({ notes }: { readonly notes: readonly string[] }) {
  return (
    <ul className="muted">
      {notes.map((note) => (
        <li key={note}>{note}</li>
      ))}
    </ul>
  );
}

/** The name of the run: that of the file without epoch or step. */
export function runName(file: string): string {
  return file.replace(/\.safetensors$/, "").replace(/-(\d{6,}|step\d{8,}|best)$/, "");
}

function baseName(path: string): string {
  return path.split(/[\\/]/).at(-1) ?? path;
}
