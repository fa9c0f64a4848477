/** The images that match a filter, in windows: a million need no more memory than what was looked at. */

import type { Api, ImageColumns } from "./api";

export const WINDOW = 500;

export interface Row {
  readonly id: number;
  readonly name: string;
  readonly v: string;
  /** Number of tags; -1 where there is no caption. */
  readonly tags: number;
  readonly edited: boolean;
}

export class Listing {
  /** Rises with each window that arrives, so that the page knows to draw again. */
  revision = 0;
  private readonly windows = new Map<number, readonly Row[]>();
  private readonly asked = new Set<number>();

  constructor(
    private readonly api: Pick<Api, "images">,
    readonly where: string,
    first: ImageColumns,
    private readonly arrived: (listing: Listing) => void,
    private former: Listing | null = null,
  ) {
    if (former) former.former = null;
    this.total = first.total;
    this.widths = first.w;
    this.heights = first.h;
    this.keep(first);
  }

  readonly total: number;
  /** Of the first window: enough to choose the shape of a cell. */
  readonly widths: readonly number[];
  readonly heights: readonly number[];

  /** The image at a place; until its window is here, the one that stood there before. */
  at(place: number): Row | undefined {
    if (place < 0 || place >= this.total) return undefined;
    const window = this.windows.get(Math.floor(place / WINDOW));
    return window ? window[place % WINDOW] : this.former?.at(place);
  }

  /** Ask for the windows of these places, each once. */
  need(from: number, to: number): void {
    for (
      let n = Math.floor(Math.max(0, from) / WINDOW);
      n <= Math.floor(Math.min(to, this.total - 1) / WINDOW);
      n++
    ) {
      if (this.windows.has(n) || this.asked.has(n)) continue;
      this.asked.add(n);
      this.api.images(this.where, n * WINDOW, WINDOW).then(
        (columns) => {
          this.keep(columns);
          this.arrived(this);
        },
        // The next scroll asks again; that the server is gone is said by whoever watches for changes.
        () => this.asked.delete(n),
      );
    }
  }

  /** A place of this image among the windows that are here, or -1. */
  placeOf(id: number): number {
    for (const [n, rows] of this.windows) {
      const at = rows.findIndex((row) => row.id === id);
      if (at >= 0) return n * WINDOW + at;
    }
    return -1;
  }

  private keep(columns: ImageColumns): void {
    const rows = columns.id.map((id, at) => ({
      id,
      name: columns.name[at] ?? "",
      v: columns.v[at] ?? "",
      tags: columns.tags[at] ?? -1,
      edited: columns.edited[at] === 1,
    }));
    this.windows.set(Math.floor(columns.offset / WINDOW), rows);
    this.revision++;
  }
}
