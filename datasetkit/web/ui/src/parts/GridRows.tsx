/** The rows of a grid of any length. Only the visible rows are in the DOM; the cursor moves over
 * all cells. */

import { observeElementOffset, useVirtualizer, type Virtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
  type ReactNode,
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { layGrid, MAX_HEIGHT, type Move, scrolledTo, scrollRatio, step } from "../geometry";
import { ScrollIdle } from "../scroll-idle";

const GAP = 8;
const LABEL = 22;
const PADDING = 12;

export interface CellPlace {
  readonly index: number;
  readonly column: number;
  readonly width: number;
  readonly scrollIdle: ScrollIdle;
}

/** The index after a move from another one. */
export type Stepped = (from: number, move: Move) => number;

interface GridRowsProps {
  readonly id?: string;
  readonly className: string;
  readonly label: string;
  readonly multiselectable?: boolean;
  readonly count: number;
  readonly cursor: number;
  readonly minWidth: number;
  readonly aspect: number;
  /** The list is another one: the cursor is shown again. */
  readonly listKey: string | undefined;
  readonly need: (from: number, to: number) => void;
  /** The id of the element of a cell. */
  readonly cellId: (index: number) => string;
  /** A cell with its key. */
  readonly cell: (place: CellPlace) => ReactNode;
  /** Return whether the key was handled. */
  readonly onKey: (event: KeyboardEvent, stepped: Stepped) => boolean;
  /** What is shown besides the rows. */
  readonly children?: ReactNode;
}

type GridVirtualizer = Virtualizer<HTMLDivElement, Element>;

export function GridRows(props: GridRowsProps) {
  const { count, cursor, minWidth, aspect, listKey, need, cellId, cell, onKey } = props;
  const frame = useRef<HTMLDivElement>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const scrollIdle = useMemo(() => new ScrollIdle(), []);

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

  const grid = layGrid(size.width, count, { minWidth, aspect, gap: GAP, label: LABEL });
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
    if (last >= 0) need(first, last);
  }, [need, first, last, listKey]);

  const cursorRow = Math.floor(Math.max(0, cursor) / grid.columns);
  useLayoutEffect(() => {
    const element = frame.current;
    if (!element || size.width === 0 || cursorRow >= grid.rows) return;
    // Not the virtualizer's scrollToIndex, which does not know the scroll ratio.
    const now = element.scrollTop * ratio;
    const top = PADDING + cursorRow * rowHeight;
    const wanted = scrolledTo(now, size.height, top, top + grid.cellHeight, PADDING);
    if (wanted !== now) element.scrollTop = wanted / ratio;
  }, [cursorRow, grid.columns, size.width > 0, listKey]);

  const onKeyDown = (event: KeyboardEvent) => {
    const rowsInView = Math.max(1, Math.floor(size.height / rowHeight));
    if (!onKey(event, (from, move) => step(from, move, count, grid.columns, rowsInView))) return;
    event.preventDefault();
    event.stopPropagation();
  };

  const top = rows.scrollOffset ?? 0;
  const physicalTop = top / ratio;
  return (
    <div
      ref={frame}
      id={props.id}
      className={props.className}
      role="grid"
      aria-label={props.label}
      aria-multiselectable={props.multiselectable}
      aria-rowcount={grid.rows}
      aria-colcount={grid.columns}
      aria-activedescendant={
        cursor >= first && cursor <= last && cursor < count ? cellId(cursor) : undefined
      }
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
      {props.children}
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
              (_, column) =>
                cell({
                  index: item.index * grid.columns + column,
                  column,
                  width: grid.cellWidth,
                  scrollIdle,
                }),
            )}
          </div>
        ))}
      </div>
    </div>
  );
}
