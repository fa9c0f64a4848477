/** Two images, large, under one zoom: side by side, as a slider, blinking, or their difference. */

import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { Icon } from "../../components/Icon";
import { t, tKey } from "../../i18n";
import { SplitHandle } from "../../parts/SplitHandle";
import { FIT, nextStep, type Zoom } from "../../parts/zoom";
import { type Layer, ZoomPane } from "../../parts/ZoomPane";
import { cellUrl } from "./api";
import { type At, moved, neighbours, type Table } from "./layout";
import { MARKS } from "./marks";
import { compared } from "./settings";
import type { Cell, Grid } from "./shapes";

export const VIEWS = ["side", "slider", "blink", "difference"] as const;
export type View = (typeof VIEWS)[number];

/** Less than two changes in a second, below what can harm (WCAG 2.3.1). */
const BLINK_MS = 700;

interface LargeViewProps {
  readonly grid: Grid;
  readonly table: Table;
  readonly order: readonly number[];
  readonly labels: readonly string[];
  readonly left: At;
  readonly right: At;
  readonly view: View;
  readonly blinking: boolean;
  /** What tells which file an image is of is not shown. */
  readonly covered: boolean;
  readonly move: (left: At, right: At) => void;
  readonly mark: (cell: Cell, value: number) => void;
  readonly close: () => void;
}

export function LargeView(props: LargeViewProps) {
  const { grid, table, order, labels, left, right, view, blinking, covered, move, mark, close } =
    props;
  const frame = useRef<HTMLDivElement>(null);
  const [zoom, setZoom] = useState<Zoom>(FIT);
  const [split, setSplit] = useState(0.5);
  const showsLeft = useBlink(view === "blink" && blinking);
  const [leftCell, rightCell] = [cellAt(table, left), cellAt(table, right)];

  useEffect(() => frame.current?.focus(), []);
  useEffect(() => {
    // What one key leads to is loaded before it is pressed.
    for (const cell of [...neighbours(table, right), ...neighbours(table, left)]) {
      new Image().src = cellUrl(grid.id, cell);
    }
  }, [grid.id, table, left, right]);

  const name = (at: At): string => {
    const label = labels[order.indexOf(at.column)] ?? "";
    return [label, ...(table.rows[at.row]?.labels ?? [])].join(" · ");
  };
  const stepped = (at: At, rows: number, columns: number): At => {
    const shown = { row: at.row, column: Math.max(0, order.indexOf(at.column)) };
    const next = moved(table, shown, rows, columns);
    return { row: next.row, column: order[next.column] ?? 0 };
  };
  const onKeyDown = (event: KeyboardEvent) => {
    // Left and right: prompt or seed; up and down: the file.
    const steps: Readonly<Record<string, readonly [number, number]>> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    };
    const by = event.altKey ? undefined : steps[event.key];
    if (by) {
      const together = event.shiftKey ? stepped(left, by[0], by[1]) : left;
      move(together, stepped(right, by[0], by[1]));
    } else if (event.key === "z") setZoom(nextStep(zoom));
    else if (event.key === "Escape" || event.key === "Enter") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const layers = (cells: readonly (Cell | undefined)[], more: readonly Partial<Layer>[]) =>
    cells.flatMap((cell, n): Layer[] =>
      cell
        ? [
            {
              src: cellUrl(grid.id, cell),
              alt: name(n === 0 && cells.length > 1 ? left : cell === leftCell ? left : right),
              width: cell.w,
              height: cell.h,
              ...more[n],
            },
          ]
        : [],
    );
  const pane = { zoom, setZoom };
  return (
    <div
      ref={frame}
      className="compare-large"
      role="group"
      aria-label={t("compare.large")}
      tabIndex={-1}
      onKeyDown={onKeyDown}
    >
      <div className="compare-large-head">
        <button type="button" className="plain" onClick={close}>
          {t("compare.back")} <kbd>Esc</kbd>
        </button>
        <span className="muted small">{t("compare.large.keys")}</span>
        <span className="spacer" />
        <button type="button" className="plain" onClick={() => setZoom(nextStep(zoom))}>
          {zoom.scale === null ? t("compare.fit") : `${Math.round(zoom.scale * 100)} %`}{" "}
          <kbd>z</kbd>
        </button>
      </div>
      <p className="visually-hidden" role="status">
        {name(right)}
      </p>
      <div className={`compare-panes ${view}`}>
        {view === "side" ? (
          <>
            <Titled title={name(left)}>
              <ZoomPane {...pane} label={name(left)} layers={layers([leftCell], [])} />
            </Titled>
            <Titled title={name(right)} cell={rightCell} grid={grid} mark={mark}>
              <ZoomPane {...pane} label={name(right)} layers={layers([rightCell], [])} />
            </Titled>
          </>
        ) : (
          <Titled
            title={titleOf(view, name(left), name(right), showsLeft)}
            cell={rightCell}
            grid={grid}
            mark={mark}
          >
            <ZoomPane
              {...pane}
              label={tKey(`compare.view.${view}`)}
              className={view}
              layers={layers(
                [leftCell, rightCell],
                [
                  { hidden: view === "blink" && !showsLeft },
                  {
                    hidden: view === "blink" && showsLeft,
                    difference: view === "difference",
                    ...(view === "slider" ? { from: split } : {}),
                  },
                ],
              )}
            >
              {view === "slider" ? (
                <SplitHandle
                  split={split}
                  setSplit={setSplit}
                  label={t("compare.slider")}
                  left={name(left)}
                  right={name(right)}
                />
              ) : null}
            </ZoomPane>
          </Titled>
        )}
      </div>
      {covered ? null : <Parameters left={leftCell} right={rightCell} />}
    </div>
  );
}

function cellAt(table: Table, at: At): Cell | undefined {
  return table.cell(at.row, at.column);
}

function titleOf(view: View, left: string, right: string, showsLeft: boolean): string {
  if (view === "blink") return showsLeft ? left : right;
  return view === "difference" ? `${left} − ${right} ×4` : `${left} ◂▸ ${right}`;
}

/** True and false in turn while it is on. */
function useBlink(on: boolean): boolean {
  const [first, setFirst] = useState(false);
  useEffect(() => {
    if (!on) {
      setFirst(false);
      return;
    }
    const timer = setInterval(() => setFirst((before) => !before), BLINK_MS);
    return () => clearInterval(timer);
  }, [on]);
  return first;
}

interface TitledProps {
  readonly title: string;
  readonly cell?: Cell | undefined;
  readonly grid?: Grid;
  readonly mark?: (cell: Cell, value: number) => void;
  readonly children: React.ReactNode;
}

function Titled({ title, cell, grid, mark, children }: TitledProps) {
  return (
    <div className="compare-pane">
      <div className="compare-pane-title">
        <b title={title}>{title}</b>
        {cell && grid && mark ? (
          <span role="group" aria-label={t("compare.mark")} className="compare-marks">
            {MARKS.map((value) => (
              <button
                key={value}
                type="button"
                aria-pressed={grid.marks[String(cell.n)] === value}
                onClick={() => mark(cell, grid.marks[String(cell.n)] === value ? 0 : value)}
              >
                {value}
              </button>
            ))}
          </span>
        ) : null}
      </div>
      {children}
    </div>
  );
}

interface ParametersProps {
  readonly left: Cell | undefined;
  readonly right: Cell | undefined;
}

/** The settings of both images; those that differ are bold. */
function Parameters({ left, right }: ParametersProps) {
  const [open, setOpen] = useState(false);
  const rows = compared(left?.settings ?? {}, right?.settings ?? {});
  const shown = open ? rows : rows.filter((row) => row.differs);
  return (
    <div className="compare-parameters">
      <button type="button" className="plain" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name={open ? "close" : "panel"} />{" "}
        {open ? t("compare.settings.differ") : t("compare.settings.all")}
      </button>
      {shown.length === 0 ? <span className="muted">{t("compare.settings.same")}</span> : null}
      <dl>
        {shown.map((row) => (
          <div key={row.name} className={row.differs ? "differs" : ""}>
            <dt>{row.name.replaceAll("_", " ")}</dt>
            <dd>{row.differs ? `${row.left} | ${row.right}` : row.right}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
