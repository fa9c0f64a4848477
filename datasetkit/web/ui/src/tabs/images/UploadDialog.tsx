/** A drop copies files: what will be copied and what is left out is shown before it begins. */

import { useEffect, useMemo, useRef, useState } from "react";
import { ApiError } from "../../http";
import { bytes, number, t, tKey } from "../../i18n";
import { Close, Dialog } from "../../parts/Dialog";
import type { DroppedFile } from "../../parts/DropZone";
import { useStudio } from "../../studio/context";
import { addConcept, uploadServer } from "./api";
import { type Candidate, HEAD, kindOf, sorted, type Sorted, withoutTop } from "./kinds";
import type { Concept, Imported } from "./shapes";
import { upload, type UploadProgress } from "./uploader";

interface UploadDialogProps {
  readonly files: readonly DroppedFile[];
  readonly concepts: readonly Concept[];
  readonly concept: Concept | undefined;
  readonly close: () => void;
  readonly done: () => Promise<void>;
}

const SHOWN = 50;
const BY_NAME = new Intl.Collator("en", { numeric: true });

export function UploadDialog({
  files: unsorted,
  concepts,
  concept,
  close,
  done,
}: UploadDialogProps) {
  const studio = useStudio();
  const { top, files } = useMemo(() => {
    // A browser names the files of a folder in any order.
    const dropped = [...unsorted].sort((a, b) => BY_NAME.compare(a.path, b.path));
    const inside = withoutTop(dropped.map((file) => file.path));
    return {
      top: inside.top,
      files: dropped.map(({ file }, n) => ({ path: inside.paths[n] ?? file.name, file })),
    };
  }, [unsorted]);
  const [found, setFound] = useState<Sorted | null>(null);
  const [name, setName] = useState(concept?.name ?? top);
  const [progress, setProgress] = useState<UploadProgress | null>(null);
  const [problem, setProblem] = useState("");
  const [result, setResult] = useState<Imported | null>(null);
  const stop = useRef<AbortController | null>(null);
  const primary = useRef<HTMLButtonElement>(null);

  useEffect(() => {
    let current = true;
    void candidates(files).then((all) => current && setFound(sorted(all)));
    return () => {
      current = false;
    };
  }, [files]);
  useEffect(() => () => stop.current?.abort(), []);
  useEffect(() => primary.current?.focus(), [found, result]);
  const wanted = useMemo(
    () => (found ? found.wanted.map((index) => files[index]!) : []),
    [found, files],
  );
  const size = wanted.reduce((sum, { file }) => sum + file.size, 0);

  const start = async () => {
    stop.current = new AbortController();
    setProblem("");
    try {
      if (!concepts.some((item) => item.name === name)) await addConcept(studio.http, name, "");
      const server = uploadServer(studio.http, name);
      const imported = await upload(server, wanted, setProgress, stop.current.signal);
      setResult(imported);
      studio.done(t("images.imported", { n: imported.images }), imported.entry !== null);
      await done();
      await studio.refresh();
    } catch (error) {
      if (error instanceof ApiError) setProblem(`${error.message}. ${error.hint}`);
      else if (!stop.current.signal.aborted) throw error;
    } finally {
      stop.current = null;
      setProgress(null);
    }
  };
  const leftOut = [
    ...(found?.leftOut ?? []).map(
      ({ index, reason }) => [files[index]!.path, tKey(`images.reason.${reason}`)] as const,
    ),
    ...(result?.left_out ?? []).map((file) => [file.name, file.reason] as const),
  ];
  return (
    <Dialog label={t("images.upload.title")} close={close}>
      <header>
        <h2>{result ? t("images.imported", { n: result.images }) : t("images.upload.title")}</h2>
      </header>
      {!result && found ? (
        <>
          <p>
            {t("images.upload.what", {
              images: t("images.count", { n: found.images.length }),
              captions: t("images.captionCount", { n: found.captions.length }),
              size: bytes(size),
            })}{" "}
            {t("images.upload.copies")}
          </p>
          <label className="upload-concept">
            {t("images.upload.concept")}
            <input
              type="text"
              list="upload-concepts"
              value={name}
              spellCheck={false}
              disabled={progress !== null}
              onChange={(event) => setName(event.target.value)}
            />
            <datalist id="upload-concepts">
              {concepts.map((item) => (
                <option key={item.id} value={item.name} />
              ))}
            </datalist>
          </label>
        </>
      ) : null}
      {!found ? <p className="muted">{t("loading")}</p> : null}
      {progress ? (
        <div className="upload-progress">
          <progress
            max={progress.ofBytes || 1}
            value={progress.bytes}
            aria-label={t("images.upload.title")}
          />
          <span className="muted">
            {t("images.upload.progress", {
              files: number(progress.files),
              of: number(progress.of),
              size: bytes(progress.bytes),
              ofSize: bytes(progress.ofBytes),
            })}
          </span>
        </div>
      ) : null}
      {problem ? (
        <p className="error-text" role="alert">
          {problem} {t("images.upload.again")}
        </p>
      ) : null}
      {leftOut.length > 0 ? (
        <section>
          <h3>{t("images.leftOut.count", { n: leftOut.length })}</h3>
          <ul className="left-out" tabIndex={0} aria-label={t("images.leftOut")}>
            {leftOut.slice(0, SHOWN).map(([path, reason], n) => (
              <li key={n}>
                <b>{path}</b> <span className="muted">{reason}</span>
              </li>
            ))}
            {leftOut.length > SHOWN ? (
              <li className="muted">{t("images.more", { n: leftOut.length - SHOWN })}</li>
            ) : null}
          </ul>
        </section>
      ) : null}
      <footer>
        {result ? (
          <Close close={close} primary />
        ) : (
          <>
            <button
              ref={primary}
              type="button"
              className="primary"
              disabled={!found || wanted.length === 0 || name === "" || progress !== null}
              onClick={() => void start()}
            >
              {t("images.upload.start", { n: found?.images.length ?? 0 })}
            </button>
            <Close close={close} cancel />
          </>
        )}
      </footer>
    </Dialog>
  );
}

async function candidates(files: readonly DroppedFile[]): Promise<readonly Candidate[]> {
  return Promise.all(
    files.map(async ({ path, file }) => {
      let head = new Uint8Array();
      try {
        head = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
      } catch {
        // A file that cannot be read is left out by its missing content.
      }
      return { path, size: file.size, kind: kindOf(path, head) };
    }),
  );
}
