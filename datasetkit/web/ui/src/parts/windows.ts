/** A long list that is loaded in windows: only what was looked at takes memory. */

export const WINDOW = 500;

export interface Page<Row> {
  readonly total: number;
  readonly rows: readonly Row[];
}

export class Windows<Row> {
  total: number;
  private readonly windows = new Map<number, readonly Row[]>();
  private readonly requested = new Set<number>();

  /** first: the window at 0, which tells how many rows there are. */
  constructor(
    first: Page<Row>,
    private readonly load: (offset: number, limit: number) => Promise<Page<Row>>,
    private readonly onWindow: () => void,
  ) {
    this.total = first.total;
    this.windows.set(0, first.rows);
  }

  at(index: number): Row | undefined {
    if (index < 0 || index >= this.total) return undefined;
    return this.windows.get(Math.floor(index / WINDOW))?.[index % WINDOW];
  }

  /** Load the windows of a range of indices, each once. */
  need(from: number, to: number): void {
    const first = Math.floor(Math.max(0, from) / WINDOW);
    const last = Math.floor(Math.min(to, this.total - 1) / WINDOW);
    for (let n = first; n <= last; n++) {
      if (this.windows.has(n) || this.requested.has(n)) continue;
      this.requested.add(n);
      this.load(n * WINDOW, WINDOW).then(
        (page) => {
          this.windows.set(n, page.rows);
          this.onWindow();
        },
        // The next scroll tries again.
        () => this.requested.delete(n),
      );
    }
  }
}

/** Columns of values as rows: `{id: [1, 2], name: ["a", "b"]}` becomes two objects. */
export function rowsOf<Row>(
  columns: Readonly<Record<string, unknown>>,
  names: readonly (keyof Row & string)[],
): readonly Row[] {
  const lists = names.map((name) => [name, columns[name]] as const);
  const length = Math.max(0, ...lists.map(([, list]) => (Array.isArray(list) ? list.length : 0)));
  return Array.from(
    { length },
    (_, at) =>
      Object.fromEntries(
        lists.map(([name, list]) => [name, Array.isArray(list) ? list[at] : undefined]),
      ) as Row,
  );
}
