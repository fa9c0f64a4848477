/** The grid of images. Only the visible rows are in the DOM; the cursor moves over all images. */

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
  MAX_HEIGHT,
  moveOf,
  scrolledTo,
  scrollRatio,
  step,
} from "../geometry";
import type { Row } from "../listing";
import { ScrollIdle } from "../scroll-idle";
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
  // Loading a window changes the listing object; the revision tells when.
  useReviewState((state) => state.revision);
  const cursor = useReviewState((state) => state.cursor);
  const selection = useReviewState((state) => state.selection);
  const aspect = useReviewState((state) => state.aspect);
  const minCellWidth = useReviewState((state) => state.minCellWidth);
  const frame = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const scrollIdle = useMemo(() => new ScrollIdle(), []);
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

  const shape: CellShape = { minWidth: minCellWidth, aspect, gap: GAP, label: LABEL };
  const grid = layGrid(size.width, count, shape);
  const rowHeight = grid.cellHeight + GAP;
  const ratio = scrollRatio(grid.rows * rowHeight + 2 * PADDING, size.height);
  const ratioNow = useRef(ratio);
  ratioNow.current = ratio;

  const observeOffset = useCallback(
    (instance: GridVirtualizer, notify: (offset: number, scrolling: boolean) => void) =>
      observeElementOffset(instance, (offset, scrolling) => {
        if (scrolling) scrollIdle.scrolled();
        notify(offset * ratioNow.current, scrolling);
      }),
    [scrollIdle],
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

  const visible = rows.getVirtualItems();
  const first = (visible[0]?.index ?? 0) * grid.columns;
  const last = ((visible.at(-1)?.index ?? -1) + 1) * grid.columns - 1;
  useEffect(() => {
    if (last >= 0) listing?.need(first, last);
  }, [listing, first, last]);

  const cursorRow = Math.floor(Math.max(0, cursor) / grid.columns);
  useLayoutEffect(() => {
    const element = frame.current;
    if (!element || size.width === 0 || cursorRow >= grid.rows) return;
    // Not the virtualizer's scrollToIndex, which does not know the scroll ratio.
    const now = element.scrollTop * ratio;
    const top = PADDING + cursorRow * rowHeight;
    const wanted = scrolledTo(now, size.height, top, top + grid.cellHeight, PADDING);
    if (wanted !== now) element.scrollTop = wanted / ratio;
  }, [cursorRow, grid.columns, size.width > 0, listing?.where]);

  const onKeyDown = (event: KeyboardEvent) => {
    const move = moveOf(event.key);
    if (move && !event.altKey && !event.metaKey) {
      const rowsInView = Math.max(1, Math.floor(size.height / rowHeight));
      review.moveTo(
        step(review.store.get().cursor, move, count, grid.columns, rowsInView),
        event.shiftKey,
      );
    } else if (event.key === " ") {
      review.toggleSelected(cursor);
    } else if (event.key === "Enter" && count > 0) {
      review.store.set({ view: "image" });
    } else if (event.key === "Escape") {
      review.clear();
    } else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      void review.selectAll();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  const click = useCallback(
    (index: number, event: MouseEvent) => {
      if (event.shiftKey) review.moveTo(index, true);
      else if (event.ctrlKey || event.metaKey) review.toggleSelected(index);
      else review.moveTo(index);
    },
    [review],
  );
  const open = useCallback(
    (index: number) => {
      review.moveTo(index);
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
      onKeyDown={onKeyDown}
    >
      {count === 0 ? <Empty /> : null}
      <div
        className="grid-canvas"
        role="presentation"
        style={{ height: ratio === 1 ? rows.getTotalSize() : MAX_HEIGHT }}
      >
        {visible.map((item) => (
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
                const index = item.index * grid.columns + column;
                const row = listing?.at(index);
                return (
                  <Cell
                    key={row?.id ?? -index - 1}
                    row={row}
                    index={index}
                    column={column}
                    width={grid.cellWidth}
                    active={index === cursor}
                    selected={row !== undefined && selection.ids.has(row.id)}
                    scrollIdle={scrollIdle}
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
  readonly index: number;
  readonly column: number;
  readonly width: number;
  readonly active: boolean;
  readonly selected: boolean;
  readonly scrollIdle: ScrollIdle;
  readonly click: (index: number, event: MouseEvent) => void;
  readonly open: (index: number) => void;
}

function sameCell(a: CellProps, b: CellProps): boolean {
  return (
    a.index === b.index &&
    a.width === b.width &&
    a.active === b.active &&
    a.selected === b.selected &&
    a.column === b.column &&
    a.row?.id === b.row?.id &&
    a.row?.v === b.row?.v &&
    a.row?.tags === b.row?.tags &&
    a.row?.edited === b.row?.edited
  );
}

const Cell = memo(function Cell({
  row,
  index,
  column,
  width,
  active,
  selected,
  scrollIdle,
  click,
  open,
}: CellProps) {
  return (
    <div
      id={`cell-${index}`}
      className={`cell${active ? " active" : ""}${selected ? " selected" : ""}`}
      role="gridcell"
      aria-colindex={column + 1}
      aria-selected={selected}
      style={{ width }}
      onClick={(event) => click(index, event)}
      onDoubleClick={() => open(index)}
    >
      <span className="image-box">
        {row ? <Thumb id={row.id} v={row.v} scrollIdle={scrollIdle} /> : null}
      </span>
      <span className="label">
        <span className="name">{row?.name ?? ""}</span>
        {row ? (
          <span className={row.tags < 0 ? "missing" : "count"}>
            {row.tags < 0 ? "no caption" : row.tags}
          </span>
        ) : null}
        {row && row.tags >= 0 ? <span className="visually-hidden"> tags</span> : null}
        {row?.edited ? (
          <span className="edited" role="img" aria-label="edited by hand" title="edited by hand" />
        ) : null}
      </span>
    </div>
  );
}, sameCell);
