/** The width of the tag list, which a person may drag; it is remembered in the browser. */

const KEY = "dsk-review-sidebar";
export const DEFAULT_WIDTH = 288;
export const MIN_WIDTH = 220;
export const MAX_WIDTH = 640;
/** Pixels that an arrow key moves the border by. */
export const WIDTH_STEP = 16;

export function clampWidth(width: number): number {
  return Math.round(Math.max(MIN_WIDTH, Math.min(MAX_WIDTH, width)));
}

/** The width after a key on the border; null for a key that does not move it. */
export function widthAfter(key: string, width: number): number | null {
  if (key === "ArrowLeft") return clampWidth(width - WIDTH_STEP);
  if (key === "ArrowRight") return clampWidth(width + WIDTH_STEP);
  if (key === "Home") return MIN_WIDTH;
  return key === "End" ? MAX_WIDTH : null;
}

/** The remembered width; null if the person never chose one. */
export function storedWidth(): number | null {
  try {
    const width = Number.parseInt(localStorage.getItem(KEY) ?? "", 10);
    return Number.isNaN(width) ? null : clampWidth(width);
  } catch {
    return null;
  }
}

export function storeWidth(width: number): void {
  try {
    localStorage.setItem(KEY, String(width));
  } catch {
    // Without local storage the width lasts until the page is closed.
  }
}
