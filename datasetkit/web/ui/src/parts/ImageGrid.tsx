/** A grid of images of any length. Only the visible rows are in the DOM. */

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
  useSyncExternalStore,
} from "react";
import { layGrid, MAX_HEIGHT, moveOf, scrolledTo, scrollRatio, step } from "../geometry";
import { ScrollIdle } from "../scroll-idle";

const GAP = 8;
const LABEL = 22;
const PADDING = 12;

export interface GridImage {
  readonly key: string | number;
  /** "" where there is nothing to show. */
  readonly src: string;
  readonly name: string;
  /** What is wrong with it, in a word; "" for nothing. */
  readonly badge?: string;
  /** What lies on the image, in its box. */
  readonly over?: ReactNode;
}

interface ImageGridProps {
  readonly count: number;
  readonly at: (index: number) => GridImage | undefined;
  readonly need: (from: number, to: number) => void;
  readonly cursor: number;
  readonly moveTo: (index: number) => void;
  readonly open?: (index: number) => void;
  readonly minWidth: number;
  readonly aspect: number;
  readonly label: string;
  /** The list is another one: the cursor is shown again. */
  readonly listKey?: string;
}

type GridVirtualizer = Virtualizer<HTMLDivElement, Element>;

export function ImageGrid(props: ImageGridProps) {
  const { count, at, need, cursor, moveTo, open, minWidth, aspect, label, listKey } = props;
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
    const now = element.scrollTop * ratio;
    const top = PADDING + cursorRow * rowHeight;
    const wanted = scrolledTo(now, size.height, top, top + grid.cellHeight, PADDING);
    if (wanted !== now) element.scrollTop = wanted / ratio;
  }, [cursorRow, grid.columns, size.width > 0, listKey]);

  const onKeyDown = (event: KeyboardEvent) => {
    const move = moveOf(event.key);
    if (move && !event.altKey && !event.metaKey && !event.ctrlKey) {
      const rowsInView = Math.max(1, Math.floor(size.height / rowHeight));
      moveTo(step(cursor, move, count, grid.columns, rowsInView));
    } else if (event.key === "Enter" && open && cursor >= 0) open(cursor);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const top = rows.scrollOffset ?? 0;
  return (
    <div
      ref={frame}
      className="grid image-grid"
      role="grid"
      aria-label={label}
      aria-rowcount={grid.rows}
      aria-colcount={grid.columns}
      aria-activedescendant={
        cursor >= first && cursor <= last && cursor < count ? `image-${cursor}` : undefined
      }
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
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
              transform: `translateY(${item.start - top + top / ratio}px)`,
              gap: GAP,
              left: PADDING,
              height: grid.cellHeight,
            }}
          >
            {Array.from(
              { length: Math.min(grid.columns, count - item.index * grid.columns) },
              (_, column) => {
                const index = item.index * grid.columns + column;
                const image = at(index);
                return (
                  <div
                    key={image?.key ?? -index - 1}
                    id={`image-${index}`}
                    className={index === cursor ? "cell active" : "cell"}
                    role="gridcell"
                    aria-colindex={column + 1}
                    aria-selected={index === cursor}
                    style={{ width: grid.cellWidth }}
                    onClick={() => moveTo(index)}
                    onDoubleClick={() => open?.(index)}
                  >
                    <span className="image-box">
                      {image ? <GridThumb src={image.src} idle={scrollIdle} /> : null}
                      {image?.over}
                    </span>
                    <span className="label">
                      <span className="name">{image?.name ?? ""}</span>
                      {image?.badge ? <span className="missing">{image.badge}</span> : null}
                    </span>
                  </div>
                );
              },
            )}
          </div>
        ))}
      </div>
    </div>
  );
}

interface GridThumbProps {
  readonly src: string;
  readonly idle: ScrollIdle;
}

/** An image that is requested when the grid stops scrolling. */
function GridThumb({ src, idle }: GridThumbProps) {
  const isIdle = useSyncExternalStore(idle.subscribe, idle.isIdle);
  const [requested, request] = useState(isIdle ? src : "");
  const [broken, setBroken] = useState(false);
  useEffect(() => {
    if (!isIdle || requested === src) return;
    setBroken(false);
    request(src);
  }, [isIdle, requested, src]);
  if (requested === "" || broken) return <span className="thumb broken" />;
  return (
    <img
      className="thumb"
      src={requested}
      alt="" // The cell around it has the name.
      draggable={false}
      decoding="async"
      onError={() => setBroken(true)}
    />
  );
}
