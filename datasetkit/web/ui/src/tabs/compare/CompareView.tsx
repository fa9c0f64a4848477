/** One grid: its table or two large images, the measures beside, and the file to keep. */

import { useEffect, useMemo, useRef, useState } from "react";
import { number, t, tKey } from "../../i18n";
import { isTextField } from "../../keys";
import { copyText } from "../../parts/copy";
import { Primary } from "../../parts/Primary";
import { useNarrow, WorkArea } from "../../parts/WorkArea";
import { useCommand, useStudio } from "../../studio/context";
import { mark as sendMark } from "./api";
import { blindLabels, isJudged, shuffled } from "./blind";
import { CellTable } from "./CellTable";
import { differingOptions, originOf } from "./joined";
import { KeepDialog } from "./KeepDialog";
import { LargeView, type View, VIEWS } from "./LargeView";
import { type At, labelText, start, tableOf } from "./layout";
import { countMarks } from "./marks";
import { ScorePanel } from "./ScorePanel";
import type { Cell, Grid, GridEntry } from "./shapes";

interface CompareViewProps {
  /** What is shown: one grid, or two that are joined. */
  readonly grid: Grid;
  readonly first: Grid;
  readonly second: Grid | null;
  readonly grids: readonly GridEntry[];
  readonly canDraw: boolean;
  readonly choose: (id: string) => void;
  /** Show another grid beside the first one, or "" for none. */
  readonly chooseSecond: (id: string) => void;
  readonly draw: () => void;
  readonly reload: () => Promise<void>;
  /** The marks of a grid have changed. */
  readonly setMarks: (grid: string, marks: Grid["marks"]) => void;
}

const CELL_WIDTHS = [96, 112, 128, 168, 216, 280, 360, 480];
const GAP = 8;
const PADDING = 24;

export function CompareView(props: CompareViewProps) {
  const { grid, first, second, grids, canDraw, choose, chooseSecond, draw, reload, setMarks } =
    props;
  const studio = useStudio();
  const table = useMemo(() => tableOf(grid), [grid]);
  const [at, setAt] = useState<At>(() => start(table));
  const [left, setLeft] = useState<At>({ row: 0, column: 0 });
  const [view, setView] = useState<View | "grid">("grid");
  const [blinking, setBlinking] = useState(() => !reducedMotion());
  const [blind, setBlind] = useState<number | null>(null);
  const [chosenWidth, setCellWidth] = useState<number | null>(null);
  const [room, setRoom] = useState(0);
  const [keeping, setKeeping] = useState(false);
  const narrow = useNarrow();
  const cellWidth = chosenWidth ?? fittingWidth(room, narrow ? 3 : table.columns.length);
  const lastView = useRef<View>("side");
  useCommand(grid.command);

  const order = useMemo(
    () => (blind === null ? table.columns.map((_, n) => n) : shuffled(table.columns, blind)),
    [table, blind],
  );
  const columns = order.map((column) => {
    const shown = table.columns[column]!;
    return { ...shown, label: labelText(shown.label) };
  });
  const labels = blind === null ? columns.map((column) => column.label) : blindLabels(columns);
  const covered = blind !== null;
  const suggested = covered ? "" : labelText(grid.scores?.suggestion.label ?? "");
  const cell = table.cell(at.row, at.column);
  const file = fileOf(grid, cell);

  const show = (next: View | "grid") => {
    if (next !== "grid") {
      lastView.current = next;
      // Beside the base model's image of the same row.
      if (view === "grid") setLeft({ row: at.row, column: at.column === 0 ? order.at(-1)! : 0 });
    }
    setView(next);
  };
  const setMark = async (marked: Cell | undefined, value: number) => {
    if (!marked) return;
    try {
      const origin = originOf(grid, marked);
      const { marks } = await sendMark(studio.http, origin.grid, origin.n, value);
      setMarks(origin.grid, marks);
    } catch (error) {
      studio.fail(error);
    }
  };
  const toggleBlind = () => {
    setBlind(blind === null ? Date.now() : null);
    // At the base model: the cursor would show where its file went.
    setAt({ row: at.row, column: 0 });
    setLeft({ row: at.row, column: 0 });
  };
  const keys: Readonly<Record<string, () => void>> = {
    v: () => show(VIEWS[(VIEWS.indexOf(view as View) + 1) % VIEWS.length] ?? "side"),
    b: () => (view === "blink" ? setBlinking(!blinking) : (show("blink"), setBlinking(true))),
    k: () => file?.there && !covered && setKeeping(true),
    y: toggleBlind,
    "0": () => void setMark(cell, 0),
    ...Object.fromEntries([1, 2, 3, 4, 5].map((n) => [n, () => void setMark(cell, n)])),
  };
  const handlers = useRef(keys);
  handlers.current = keys;
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      const target = event.target instanceof HTMLElement ? event.target : document.body;
      const type = target.getAttribute("type") ?? "text";
      const typing = isTextField(target.tagName, type, target.isContentEditable);
      if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
      if (typing || target.closest("dialog")) return;
      const handler = handlers.current[event.key];
      if (!handler) return;
      event.preventDefault();
      event.stopPropagation();
      handler();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);

  const back = () => {
    setView("grid");
    requestAnimationFrame(() => document.getElementById("compare-cells")?.focus());
  };
  const judged = isJudged(countMarks(table, grid.marks), table.columns);
  return (
    <WorkArea
      summary={<Choice grid={grid} file={file} cell={cell} covered={covered} />}
      action={
        <Primary
          label={
            file && !covered
              ? t("compare.keep", { label: labelText(file.label) })
              : t("compare.keep.none")
          }
          blocked={
            covered
              ? t("compare.keep.blind")
              : !file
                ? t("compare.keep.without")
                : file.there
                  ? ""
                  : t("compare.keep.gone")
          }
          onPress={() => setKeeping(true)}
        />
      }
    >
      <div className="compare">
        <div className="compare-bar">
          <select
            aria-label={t("compare.which")}
            value={grid.id}
            onChange={(event) => choose(event.target.value)}
          >
            {grids.map((entry) => (
              <option key={entry.id} value={entry.id}>
                {t(entry.kind === "grid" ? "compare.entry.grid" : "compare.entry.previews", {
                  title: entry.title,
                  n: entry.images,
                })}
              </option>
            ))}
          </select>
          {grids.length > 1 ? (
            <label>
              {t("compare.beside")}{" "}
              <select
                value={second?.id ?? ""}
                onChange={(event) => chooseSecond(event.target.value)}
              >
                <option value="">{t("compare.beside.none")}</option>
                {grids
                  .filter((entry) => entry.id !== first.id)
                  .map((entry) => (
                    <option key={entry.id} value={entry.id}>
                      {entry.title}
                    </option>
                  ))}
              </select>
            </label>
          ) : null}
          {canDraw ? (
            <button type="button" onClick={draw}>
              {t("compare.draw")}
            </button>
          ) : null}
          <div className="segments" role="group" aria-label={t("compare.view")}>
            {(["grid", ...VIEWS] as const).map((name) => (
              <button
                key={name}
                type="button"
                aria-pressed={view === name}
                onClick={() => (name === "grid" ? back() : show(name))}
              >
                {tKey(`compare.view.${name}`)}
              </button>
            ))}
          </div>
          {view === "blink" ? (
            <button type="button" aria-pressed={blinking} onClick={() => setBlinking(!blinking)}>
              {t("compare.blinking")} <kbd>b</kbd>
            </button>
          ) : null}
          <button
            type="button"
            aria-pressed={covered}
            title={t("compare.blind.why")}
            onClick={toggleBlind}
          >
            {covered
              ? t(judged ? "compare.blind.open" : "compare.blind.early")
              : t("compare.blind")}{" "}
            <kbd>y</kbd>
          </button>
          {view === "grid" ? (
            <input
              type="range"
              aria-label={t("compare.size")}
              min={0}
              max={CELL_WIDTHS.length - 1}
              value={CELL_WIDTHS.findLastIndex((width) => width <= cellWidth)}
              onChange={(event) => setCellWidth(CELL_WIDTHS[Number(event.target.value)] ?? 128)}
            />
          ) : null}
        </div>
        {second && !covered ? <Differing first={first} second={second} /> : null}
        {view === "grid" ? (
          <div className="compare-body">
            <CellTable
              grid={grid}
              table={table}
              order={order}
              labels={labels}
              suggested={suggested}
              at={at}
              setAt={setAt}
              open={(opened) => {
                setAt(opened);
                setLeft({ row: opened.row, column: opened.column === 0 ? order.at(-1)! : 0 });
                setView(lastView.current);
              }}
              cellWidth={cellWidth}
              setRoom={setRoom}
            />
            <ScorePanel
              grid={grid}
              table={table}
              order={order}
              labels={labels}
              covered={covered}
              at={at}
              setAt={setAt}
            />
          </div>
        ) : (
          <LargeView
            grid={grid}
            table={table}
            order={order}
            labels={labels}
            left={left}
            right={at}
            view={view}
            blinking={blinking}
            covered={covered}
            move={(nextLeft, nextRight) => {
              setLeft(nextLeft);
              setAt(nextRight);
            }}
            mark={(marked, value) => void setMark(marked, value)}
            close={back}
          />
        )}
      </div>
      {keeping && file ? (
        <KeepDialog
          grid={grid}
          file={file}
          cell={cell}
          close={() => setKeeping(false)}
          kept={reload}
        />
      ) : null}
    </WorkArea>
  );
}

/** Which letter is which run, and the options by which they differ. */
function Differing({ first, second }: { readonly first: Grid; readonly second: Grid }) {
  const rows = differingOptions(first, second);
  return (
    <p className="compare-differs">
      <b>A</b> {first.title} · <b>B</b> {second.title}
      {rows.length === 0 ? <span className="muted"> {t("compare.differs.none")}</span> : null}
      {rows.map((row) => (
        <span key={row.name}>
          {" "}
          · <code>{row.name}</code> <b>{row.left}</b> <span className="muted">({row.right})</span>
        </span>
      ))}
    </p>
  );
}

/** The width at which so many columns fit, within limits. */
function fittingWidth(room: number, columns: number): number {
  const width = Math.floor((room - PADDING - GAP * (columns - 1)) / Math.max(1, columns));
  return Math.min(360, Math.max(96, width));
}

function reducedMotion(): boolean {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function fileOf(grid: Grid, cell: Cell | undefined) {
  return cell?.file === null || cell === undefined
    ? undefined
    : grid.files.find((file) => file.n === cell.file);
}

/** The weight at which a cell was drawn. */
export function weightOf(cell: Cell | undefined): number {
  const weight = Number(cell?.settings["unet_weight"] ?? 1);
  return weight > 0 ? weight : 1;
}

interface ChoiceProps {
  readonly grid: Grid;
  readonly file: Grid["files"][number] | undefined;
  readonly cell: Cell | undefined;
  readonly covered: boolean;
}

/** The file under the cursor, where it is kept already, and the prompt to paste. */
function Choice({ grid, file, cell, covered }: ChoiceProps) {
  const studio = useStudio();
  if (covered) return <span className="muted">{t("compare.choice.blind")}</span>;
  if (!file) return <span className="muted">{t("compare.choice.none")}</span>;
  const stem = file.kept?.name ?? file.name.replace(/\.safetensors$/, "");
  const weight = weightOf(cell);
  const prompt = [`<lora:${stem}:${weight}>`, ...grid.trigger].join(" ");
  const copy = async () => {
    if (await copyText(prompt)) studio.toast(t("copied"));
    else studio.toast(t("copy.failed"), { kind: "warning" });
  };
  return (
    <div className="compare-choice">
      <span>
        {t("compare.choice")} <b>{labelText(file.label)}</b>,{" "}
        {t("compare.weight", { weight: number(weight) })}
      </span>
      {file.kept ? (
        <span className="badge">
          {t("compare.kept", { name: file.kept.name, weight: number(file.kept.weight) })}
        </span>
      ) : null}
      <span className="compare-prompt">
        {t("compare.prompt")} <code>{prompt}</code>
        <button type="button" className="plain" onClick={() => void copy()}>
          {t("copy")}
        </button>
      </span>
    </div>
  );
}
