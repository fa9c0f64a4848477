/** The images of one concept as a grid, or one of them before and after the preparation. */

import { useCallback, useEffect, useMemo, useState } from "react";
import { bytes, number, serverText, t, tKey } from "../../i18n";
import type { DroppedFile } from "../../parts/DropZone";
import { DropZone } from "../../parts/DropZone";
import { ImageGrid } from "../../parts/ImageGrid";
import { Primary } from "../../parts/Primary";
import { SplitHandle } from "../../parts/SplitHandle";
import { Windows } from "../../parts/windows";
import { WorkArea } from "../../parts/WorkArea";
import { FIT, type Zoom } from "../../parts/zoom";
import { ZoomPane } from "../../parts/ZoomPane";
import { useCommand, useStudio, useStudioState } from "../../studio/context";
import {
  loadLeftOut,
  loadSource,
  loadSources,
  madeImage,
  prepare,
  sourceImage,
  sourceThumb,
} from "./api";
import { ConceptList } from "./ConceptList";
import { PreparePanel } from "./PreparePanel";
import type { Concept, Concepts, LeftOut, PreparePlan, Source, SourceRow, Steps } from "./shapes";

interface ImagesViewProps {
  readonly concepts: Concepts;
  readonly concept: Concept;
  readonly choose: (id: number) => void;
  readonly add: () => void;
  readonly take: (files: readonly DroppedFile[]) => void;
  readonly reload: () => Promise<void>;
}

const CELL_WIDTHS = [96, 120, 148, 184, 232, 300, 400];
const DRY_RUN_DELAY = 300;

export function ImagesView({ concepts, concept, choose, add, take, reload }: ImagesViewProps) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  const [list, setList] = useState<Windows<SourceRow> | null>(null);
  const [, setRevision] = useState(0);
  const [cursor, setCursor] = useState(0);
  const [view, setView] = useState<"grid" | "compare">("grid");
  const [minWidth, setMinWidth] = useState(148);
  const [leftOut, setLeftOut] = useState<readonly LeftOut[]>([]);
  const [steps, setSteps] = useState<Steps>(concepts.steps);
  const [plan, setPlan] = useState<PreparePlan | null>(null);
  const row = list?.at(cursor);
  const source = useSource(row, concept);
  useCommand(plan?.command ?? "");

  useEffect(() => {
    const load = (offset: number, limit: number) =>
      loadSources(studio.http, concept.id, offset, limit);
    load(0, 500).then(
      (first) => setList(new Windows(first, load, () => setRevision((n) => n + 1))),
      (error: unknown) => studio.fail(error),
    );
    if (concept.left_out === 0) setLeftOut([]);
    else {
      loadLeftOut(studio.http, concept.id).then(
        ({ files }) => setLeftOut(files),
        (error: unknown) => studio.fail(error),
      );
    }
  }, [studio, concept]);
  useEffect(() => {
    const stop = new AbortController();
    const timer = setTimeout(() => {
      setPlan(null);
      if (Object.keys(steps).length === 0) return;
      prepare(studio.http, concept.id, steps, true, stop.signal).then(setPlan, (error: unknown) =>
        studio.fail(error),
      );
    }, DRY_RUN_DELAY);
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [studio, concept, steps]);

  const at = useCallback(
    (index: number) => {
      const shown = list?.at(index);
      return (
        shown && {
          key: shown.id,
          src: shown.problem === "unreadable" ? "" : sourceThumb(shown.id, shown.v),
          name: shown.name,
          badge: shown.problem ? tKey(`images.problem.${shown.problem}`) : "",
        }
      );
    },
    [list],
  );
  const need = useCallback((from: number, to: number) => list?.need(from, to), [list]);
  const start = async () => {
    try {
      await prepare(studio.http, concept.id, steps, false);
      studio.done(t("images.prepare.started", { n: concept.images }));
      await studio.refresh();
      await reload();
      return true;
    } catch (error) {
      studio.fail(error);
      return false;
    }
  };
  const chosen = Object.keys(steps).length > 0;
  const blocked = readOnly ? t("images.prepare.readOnly") : !chosen ? t("images.prepare.none") : "";
  return (
    <WorkArea
      left={
        <>
          <ConceptList concepts={concepts.concepts} concept={concept} choose={choose} add={add} />
          <PreparePanel concept={concept} steps={steps} setSteps={setSteps} plan={plan} />
        </>
      }
      right={
        <Details source={source} row={row} leftOut={leftOut} compare={() => setView("compare")} />
      }
      rightLabel={t("images.details")}
      action={
        <Primary
          label={t("images.prepare.start", { n: plan?.images ?? concept.images })}
          blocked={blocked}
          done={plan?.total === 0 ? t("images.prepare.current") : ""}
          onPress={start}
        />
      }
      summary={leftOut.length > 0 ? t("images.leftOut.count", { n: leftOut.length }) : undefined}
    >
      <div className="images-main">
        <div className="images-bar">
          <div className="segments" role="group" aria-label={t("images.view")}>
            {(["grid", "compare"] as const).map((name) => (
              <button
                key={name}
                type="button"
                aria-pressed={view === name}
                onClick={() => setView(name)}
              >
                {tKey(`images.view.${name}`)}
              </button>
            ))}
          </div>
          <span className="muted">{t("images.count", { n: concept.images })}</span>
          <span className="spacer" />
          <input
            type="range"
            aria-label={t("images.size")}
            min={0}
            max={CELL_WIDTHS.length - 1}
            value={CELL_WIDTHS.indexOf(minWidth)}
            onChange={(event) => setMinWidth(CELL_WIDTHS[Number(event.target.value)] ?? 148)}
          />
        </div>
        {view === "grid" ? (
          <ImageGrid
            count={list?.total ?? 0}
            at={at}
            need={need}
            cursor={cursor}
            moveTo={setCursor}
            open={() => setView("compare")}
            minWidth={minWidth}
            aspect={1}
            label={t("images.grid", { name: concept.name })}
            listKey={String(concept.id)}
          />
        ) : (
          <BeforeAfter source={source} back={() => setView("grid")} />
        )}
        {readOnly ? null : (
          <div className="images-drop">
            <DropZone onFiles={take} />
            <button type="button" className="plain" onClick={add}>
              {t("images.folder.open")}
            </button>
          </div>
        )}
      </div>
    </WorkArea>
  );
}

/** Everything about the image under the cursor, again when its concept has changed. */
function useSource(row: SourceRow | undefined, concept: Concept): Source | null {
  const studio = useStudio();
  const [source, setSource] = useState<Source | null>(null);
  useEffect(() => {
    if (!row) {
      setSource(null);
      return;
    }
    const stop = new AbortController();
    loadSource(studio.http, row.id, stop.signal).then(setSource, (error: unknown) =>
      studio.fail(error),
    );
    return () => stop.abort();
  }, [studio, row?.id, row?.v, concept]);
  return source?.id === row?.id ? source : null;
}

interface BeforeAfterProps {
  readonly source: Source | null;
  readonly back?: () => void;
}

/** The image as it was and as it became, under one zoom. */
function BeforeAfter({ source, back }: BeforeAfterProps) {
  const [zoom, setZoom] = useState<Zoom>(FIT);
  const [split, setSplit] = useState(0.5);
  const layers = useMemo(() => {
    if (!source) return [];
    const size = { width: source.w, height: source.h };
    const before = { src: sourceImage(source.id, source.v), alt: t("images.before"), ...size };
    if (!source.made) return [before];
    const after = {
      src: madeImage(source.id, source.made.v),
      alt: t("images.after"),
      // On the pixels of the original: a smaller image is drawn larger.
      ...size,
      from: split,
    };
    return [before, after];
  }, [source, split]);
  if (!source) return <div className="before-after" />;
  return (
    <div
      className="before-after"
      onKeyDown={(event) => {
        if (event.key !== "Escape" || !back) return;
        event.stopPropagation();
        back();
      }}
    >
      <ZoomPane layers={layers} zoom={zoom} setZoom={setZoom} label={source.name}>
        {source.made ? (
          <SplitHandle
            split={split}
            setSplit={setSplit}
            label={t("images.slider")}
            left={t("images.before")}
            right={t("images.after")}
          />
        ) : null}
      </ZoomPane>
      {source.made ? null : <p className="muted small">{t("images.notPrepared")}</p>}
    </div>
  );
}

interface DetailsProps {
  readonly source: Source | null;
  readonly row: SourceRow | undefined;
  readonly leftOut: readonly LeftOut[];
  readonly compare: () => void;
}

function Details({ source, row, leftOut, compare }: DetailsProps) {
  return (
    <div className="images-details">
      {row ? <h2 title={row.name}>{row.name}</h2> : null}
      {source ? (
        <>
          <p className="muted">
            {number(source.w)} × {number(source.h)} · {source.format} · {bytes(source.bytes)}
            {source.upright ? "" : ` · ${t("images.turned")}`}
          </p>
          {source.made ? (
            <p className="muted">
              {t("images.madeAs", { w: source.made.w, h: source.made.h })}
              {source.bucket
                ? ` · ${t("images.bucket", { w: source.bucket[0], h: source.bucket[1] })}`
                : ""}
            </p>
          ) : null}
          {source.problems.map((problem) => (
            <p key={problem.text} className="warn-text">
              ▲ {serverText(problem.text)}
            </p>
          ))}
          <BeforeAfter source={source} />
          <button type="button" onClick={compare}>
            {t("images.larger")}
          </button>
        </>
      ) : null}
      {leftOut.length > 0 ? (
        <section>
          <h3>{t("images.leftOut.count", { n: leftOut.length })}</h3>
          <ul className="left-out">
            {leftOut.map((file) => (
              <li key={file.name}>
                <b>{file.name}</b>{" "}
                <span className="muted">{file.reason.split("; ").map(serverText).join("; ")}</span>
              </li>
            ))}
          </ul>
        </section>
      ) : null}
    </div>
  );
}
