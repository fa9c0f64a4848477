/** The entries of the history, as the server sends them. */

export interface HistoryEntry {
  readonly id: number;
  readonly verb: string;
  readonly title: string;
  readonly time: number;
  readonly undone: boolean;
  /** It was interrupted, and is half done. */
  readonly open: boolean;
  readonly operations?: number;
}

/** The entries that an undo back to one of them takes back: it and all newer ones. */
export function undoneWith(entries: readonly HistoryEntry[], id: number): readonly HistoryEntry[] {
  return entries.filter((entry) => entry.id >= id && !entry.undone && !entry.open);
}
