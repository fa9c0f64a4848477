/** The table of images: a column for each LoRA, "without" first and always in view. */

import { type CSSProperties, type KeyboardEvent, useLayoutEffect, useRef } from "react";
import { t } from "../../i18n";
import { cellUrl } from "./api";
import { type At, moved, type Table } from "./layout";
import type { Grid } from "./shapes";

/** Side of the images of the table, in pixels. */
const SIDE = 480;

interface CellTableProps {
  readonly grid: Grid;
  readonly table: Table;
  /** The columns in the order in which they are shown, and their labels. */
  readonly order: readonly number[];
  readonly labels: readonly string[];
  readonly suggested: string;
  readonly at: At;
  readonly setAt: (at: At) => void;
  readonly open: (at: At) => void;
  readonly cellWidth: number;
  /** Tell the width of the table. */
  readonly setRoom: (width: number) => void;
}

export function CellTable(props: CellTableProps) {
  const { grid, table, order, labels, suggested, at, setAt, open, cellWidth, setRoom } = props;
  const frame = useRef<HTMLDivElement>(null);
  const position = Math.max(0, order.indexOf(at.column));

  useLayoutEffect(() => {
    const element = frame.current;
    if (!element) return;
    const measure = () => setRoom(element.clientWidth);
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, [setRoom]);
  useLayoutEffect(() => {
    const cell = frame.current?.querySelector(".compare-cell.active");
    cell?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [at.row, position, cellWidth]);

  const go = (rows: number, columns: number) => {
    const next = moved(table, { row: at.row, column: position }, rows, columns);
    setAt({ row: next.row, column: order[next.column] ?? 0 });
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const steps: Readonly<Record<string, readonly [number, number]>> = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      Home: [0, -order.length],
      End: [0, order.length],
    };
    const by = steps[event.key];
    if (by) go(by[0], by[1]);
    else if (event.key === "Enter") open(at);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const style = { "--columns": order.length, "--cell": `${cellWidth}px` } as CSSProperties;
  return (
    <div
      ref={frame}
      id="compare-cells"
      className="compare-table"
      role="grid"
      aria-label={t("compare.table")}
      aria-rowcount={table.rows.length + 1}
      aria-colcount={order.length}
      aria-activedescendant={`compare-${at.row}-${position}`}
      tabIndex={0}
      style={style}
      onKeyDown={onKeyDown}
    >
      <div role="row" className="compare-row compare-head">
        {order.map((column, n) => (
          <div
            key={column}
            role="columnheader"
            className={table.columns[column]?.without ? "compare-without" : ""}
          >
            {labels[n]}
            {suggested !== "" && labels[n] === suggested ? (
              <span className="compare-suggested" title={t("compare.suggested")}>
                ★<span className="visually-hidden"> {t("compare.suggested")}</span>
              </span>
            ) : null}
          </div>
        ))}
      </div>
      {table.rows.map((row, y) => (
        <div key={row.key} role="row" className="compare-row">
          <div role="rowheader" className="compare-row-label" title={row.labels.join(" · ")}>
            <span>{row.labels.join(" · ")}</span>
          </div>
          {order.map((column, x) => {
            const cell = table.cell(y, column);
            const active = y === at.row && column === at.column;
            const without = table.columns[column]?.without ?? false;
            const mark = cell ? (grid.marks[String(cell.n)] ?? 0) : 0;
            return (
              <div
                key={column}
                id={`compare-${y}-${x}`}
                role="gridcell"
                aria-selected={active}
                className={`compare-cell${active ? " active" : ""}${without ? " compare-without" : ""}`}
                style={{ aspectRatio: cell ? `${cell.w} / ${cell.h}` : "1" }}
                onClick={() => setAt({ row: y, column })}
                onDoubleClick={() => open({ row: y, column })}
              >
                {cell ? (
                  <img
                    src={cellUrl(grid.id, cell, SIDE)}
                    alt={`${labels[x]}, ${row.labels.join(", ")}`}
                    loading="lazy"
                    decoding="async"
                    draggable={false}
                    className={cell.w < cellWidth ? "sharp" : ""}
                  />
                ) : (
                  <span className="compare-missing">{t("compare.notDrawn")}</span>
                )}
                {mark ? (
                  <span className="compare-mark">
                    <span className="visually-hidden">{t("compare.mark")} </span>
                    {mark}
                  </span>
                ) : null}
              </div>
            );
          })}
        </div>
      ))}
    </div>
  );
}
