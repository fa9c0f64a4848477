/** The grid of images: only the rows in view are in the page, and one cursor moves over all of them. */

import { observeElementOffset, useVirtualizer, type Virtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
  memo,
  type MouseEvent,
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import {
  type CellShape,
  layGrid,
  moveOf,
  scrolledTo,
  scrollRatio,
  step,
  TALLEST,
} from "../geometry";
import type { Row } from "../listing";
import { Settle } from "../settle";
import { useReview, useReviewState } from "./context";
import { Empty } from "./Empty";
import { Thumb } from "./Thumb";

const GAP = 8;
const LABEL = 22;
const PADDING = 12;

type GridVirtualizer = Virtualizer<HTMLDivElement, Element>;

export function Grid() {
  const review = useReview();
  const listing = useReviewState((state) => state.listing);
  // Windows that arrive change the listing within; the number says so.
  useReviewState((state) => state.revision);
  const cursor = useReviewState((state) => state.cursor);
  const selection = useReviewState((state) => state.selection);
  const aspect = useReviewState((state) => state.aspect);
  const least = useReviewState((state) => state.least);
  const frame = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const settle = useMemo(() => new Settle(), []);
  const count = listing?.total ?? 0;

  useLayoutEffect(() => {
    const element = frame.current;
    if (!element) return;
    const measure = () =>
      setSize({ width: element.clientWidth - 2 * PADDING, height: element.clientHeight });
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const shape: CellShape = { least, aspect, gap: GAP, label: LABEL };
  const grid = layGrid(size.width, count, shape);
  const rowHeight = grid.cellHeight + GAP;
  const ratio = scrollRatio(grid.rows * rowHeight + 2 * PADDING, size.height);
  const ratioNow = useRef(ratio);
  ratioNow.current = ratio;

  const observeOffset = useCallback(
    (instance: GridVirtualizer, tell: (offset: number, scrolling: boolean) => void) =>
      observeElementOffset(instance, (offset, scrolling) => {
        if (scrolling) settle.moved();
        tell(offset * ratioNow.current, scrolling);
      }),
    [settle],
  );
  const rows = useVirtualizer<HTMLDivElement, Element>({
    count: size.width > 0 ? grid.rows : 0,
    getScrollElement: () => frame.current,
    estimateSize: () => rowHeight,
    overscan: 1,
    paddingStart: PADDING,
    paddingEnd: PADDING,
    observeElementOffset: observeOffset,
  });
  useLayoutEffect(() => rows.measure(), [rows, rowHeight]);

  const drawn = rows.getVirtualItems();
  const first = (drawn[0]?.index ?? 0) * grid.columns;
  const last = ((drawn.at(-1)?.index ?? -1) + 1) * grid.columns - 1;
  useEffect(() => {
    if (last >= 0) listing?.need(first, last);
  }, [listing, first, last]);

  const cursorRow = Math.floor(Math.max(0, cursor) / grid.columns);
  useLayoutEffect(() => {
    const element = frame.current;
    if (!element || size.width === 0 || cursorRow >= grid.rows) return;
    // Not the virtualizer's own way: it knows nothing of the ratio and stops at the height that browsers draw.
    const now = element.scrollTop * ratio;
    const top = PADDING + cursorRow * rowHeight;
    const wanted = scrolledTo(now, size.height, top, top + grid.cellHeight, PADDING);
    if (wanted !== now) element.scrollTop = wanted / ratio;
  }, [cursorRow, grid.columns, size.width > 0, listing?.where]);

  const press = (event: KeyboardEvent) => {
    const move = moveOf(event.key);
    if (move && !event.altKey && !event.metaKey) {
      const rowsInView = Math.max(1, Math.floor(size.height / rowHeight));
      review.moveTo(
        step(review.store.get().cursor, move, count, grid.columns, rowsInView),
        event.shiftKey,
      );
    } else if (event.key === " ") {
      review.choose(cursor);
    } else if (event.key === "Enter" && count > 0) {
      review.store.set({ view: "image" });
    } else if (event.key === "Escape") {
      review.letGo();
    } else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      void review.chooseAll();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  const click = useCallback(
    (place: number, event: MouseEvent) => {
      if (event.shiftKey) review.moveTo(place, true);
      else if (event.ctrlKey || event.metaKey) review.choose(place);
      else review.moveTo(place);
    },
    [review],
  );
  const open = useCallback(
    (place: number) => {
      review.moveTo(place);
      review.store.set({ view: "image" });
    },
    [review],
  );

  const top = rows.scrollOffset ?? 0;
  const physicalTop = top / ratio;
  return (
    <div
      ref={frame}
      id="images"
      className="grid"
      role="grid"
      aria-label="Images"
      aria-multiselectable="true"
      aria-rowcount={grid.rows}
      aria-colcount={grid.columns}
      aria-activedescendant={
        cursor >= first && cursor <= last && cursor < count ? `cell-${cursor}` : undefined
      }
      tabIndex={0}
      onKeyDown={press}
    >
      {count === 0 ? <Empty /> : null}
      <div
        className="grid-ground"
        role="presentation"
        style={{ height: ratio === 1 ? rows.getTotalSize() : TALLEST }}
      >
        {drawn.map((item) => (
          <div
            key={item.key}
            className="grid-row"
            role="row"
            aria-rowindex={item.index + 1}
            style={{
              transform: `translateY(${item.start - top + physicalTop}px)`,
              gap: GAP,
              left: PADDING,
              height: grid.cellHeight,
            }}
          >
            {Array.from(
              { length: Math.min(grid.columns, count - item.index * grid.columns) },
              (_, column) => {
                const place = item.index * grid.columns + column;
                const row = listing?.at(place);
                return (
                  <Cell
                    key={row?.id ?? -place - 1}
                    row={row}
                    place={place}
                    column={column}
                    width={grid.cellWidth}
                    active={place === cursor}
                    chosen={row !== undefined && selection.chosen.has(row.id)}
                    settle={settle}
                    click={click}
                    open={open}
                  />
                );
              },
            )}
          </div>
        ))}
      </div>
    </div>
  );
}

interface CellProps {
  readonly row: Row | undefined;
  readonly place: number;
  readonly column: number;
  readonly width: number;
  readonly active: boolean;
  readonly chosen: boolean;
  readonly settle: Settle;
  readonly click: (place: number, event: MouseEvent) => void;
  readonly open: (place: number) => void;
}

function sameCell(a: CellProps, b: CellProps): boolean {
  return (
    a.place === b.place &&
    a.width === b.width &&
    a.active === b.active &&
    a.chosen === b.chosen &&
    a.column === b.column &&
    a.row?.id === b.row?.id &&
    a.row?.v === b.row?.v &&
    a.row?.tags === b.row?.tags &&
    a.row?.edited === b.row?.edited
  );
}

const Cell = memo(function Cell({
  row,
  place,
  column,
  width,
  active,
  chosen,
  settle,
  click,
  open,
}: CellProps) {
  return (
    <div
      id={`cell-${place}`}
      className={`cell${active ? " active" : ""}${chosen ? " chosen" : ""}`}
      role="gridcell"
      aria-colindex={column + 1}
      aria-selected={chosen}
      style={{ width }}
      onClick={(event) => click(place, event)}
      onDoubleClick={() => open(place)}
    >
      <span className="mat">{row ? <Thumb id={row.id} v={row.v} settle={settle} /> : null}</span>
      <span className="label">
        <span className="name">{row?.name ?? ""}</span>
        {row ? (
          <span className={row.tags < 0 ? "missing" : "count"}>
            {row.tags < 0 ? "no caption" : row.tags}
          </span>
        ) : null}
        {row && row.tags >= 0 ? <span className="visually-hidden"> tags</span> : null}
        {row?.edited ? (
          <span
            className="edited"
            role="img"
            aria-label="edited by a person"
            title="edited by a person"
          />
        ) : null}
      </span>
    </div>
  );
}, sameCell);
