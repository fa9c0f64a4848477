/** The images that match a filter, loaded in windows: only what was viewed takes memory. */

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
  private readonly windows = new Map<number, readonly Row[]>();
  private readonly requested = new Set<number>();

  constructor(
    private readonly api: Pick<Api, "images">,
    readonly where: string,
    first: ImageColumns,
    private readonly onWindow: (listing: Listing) => void,
    private previous: Listing | null = null,
  ) {
    if (previous) previous.previous = null;
    this.total = first.total;
    this.keep(first);
  }

  readonly total: number;

  /** The image at an index; until its window is loaded, the previous listing's. */
  at(index: number): Row | undefined {
    if (index < 0 || index >= this.total) return undefined;
    const window = this.windows.get(Math.floor(index / WINDOW));
    return window ? window[index % WINDOW] : this.previous?.at(index);
  }

  /** Load the windows of a range of indices, each once. */
  need(from: number, to: number): void {
    const first = Math.floor(Math.max(0, from) / WINDOW);
    const last = Math.floor(Math.min(to, this.total - 1) / WINDOW);
    for (let n = first; n <= last; n++) {
      if (this.windows.has(n) || this.requested.has(n)) continue;
      this.requested.add(n);
      this.api.images(this.where, n * WINDOW, WINDOW).then(
        (columns) => {
          this.keep(columns);
          this.onWindow(this);
        },
        // The next scroll tries again. That the server is gone shows up in the poll for changes.
        () => this.requested.delete(n),
      );
    }
  }

  /** The index of an image among the loaded windows, or -1. */
  indexOf(id: number): number {
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
  }
}
