/** The layout of the grid: columns, rows, and how a million rows fit a scroll bar. */

/** A height that every browser can draw: Firefox stops at 17.9 million pixels, Chromium at 33.5. */
export const MAX_HEIGHT = 8_000_000;

export interface Grid {
  readonly columns: number;
  readonly rows: number;
  readonly cellWidth: number;
  readonly cellHeight: number;
}

export interface CellShape {
  /** Minimum width of a cell in CSS pixels. */
  readonly minWidth: number;
  /** Width divided by height of the image box. */
  readonly aspect: number;
  readonly gap: number;
  /** Height of the label under each image. */
  readonly label: number;
}

/** Fit as many columns as the width allows, and widen the cells to fill it. */
export function layGrid(width: number, count: number, shape: CellShape): Grid {
  const columns = Math.max(1, Math.floor((width + shape.gap) / (shape.minWidth + shape.gap)));
  const cellWidth = Math.max(1, (width - shape.gap * (columns - 1)) / columns);
  const cellHeight = Math.round(cellWidth / shape.aspect) + shape.label;
  return { columns, rows: Math.ceil(count / columns), cellWidth, cellHeight };
}

/** The aspect ratio of the image boxes: the median of the images, within limits. */
export function commonAspect(widths: readonly number[], heights: readonly number[]): number {
  const aspects = widths
    .map((width, at) => width / (heights[at] ?? 0))
    .filter((aspect) => Number.isFinite(aspect) && aspect > 0)
    .sort((a, b) => a - b);
  const median = aspects[aspects.length >> 1] ?? 1;
  return Math.min(1.5, Math.max(0.7, median));
}

/** Logical pixels per pixel of the scroll bar; 1 up to the height that browsers can draw. */
export function scrollRatio(
  logicalHeight: number,
  viewport: number,
  maxHeight = MAX_HEIGHT,
): number {
  if (logicalHeight <= maxHeight) return 1;
  return (logicalHeight - viewport) / (maxHeight - viewport);
}

/** The nearest scroll offset at which `top` to `bottom` is in view, with a margin. */
export function scrolledTo(
  now: number,
  viewport: number,
  top: number,
  bottom: number,
  margin: number,
): number {
  if (top - margin < now) return Math.max(0, top - margin);
  return bottom + margin > now + viewport ? bottom + margin - viewport : now;
}

export type Move = "left" | "right" | "up" | "down" | "home" | "end" | "page-up" | "page-down";

/** The next cursor index. Down from the row above a short last row goes to the last image. */
export function step(
  at: number,
  move: Move,
  count: number,
  columns: number,
  rowsInView: number,
): number {
  if (count === 0) return -1;
  if (at < 0) return 0;
  const last = count - 1;
  const page = Math.max(1, rowsInView - 1) * columns;
  switch (move) {
    case "left":
      return Math.max(0, at - 1);
    case "right":
      return Math.min(last, at + 1);
    case "up":
      return at < columns ? at : at - columns;
    case "down":
      if (at + columns <= last) return at + columns;
      return Math.floor(at / columns) < Math.floor(last / columns) ? last : at;
    case "home":
      return 0;
    case "end":
      return last;
    case "page-up":
      return at - page >= 0 ? at - page : at % columns;
    case "page-down":
      return Math.min(last, at + page);
  }
}

const MOVES: Readonly<Record<string, Move>> = {
  ArrowLeft: "left",
  ArrowRight: "right",
  ArrowUp: "up",
  ArrowDown: "down",
  Home: "home",
  End: "end",
  PageUp: "page-up",
  PageDown: "page-down",
};

export function moveOf(key: string): Move | undefined {
  return MOVES[key];
}
