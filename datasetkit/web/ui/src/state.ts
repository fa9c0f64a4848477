/** What the page knows at one moment. */

import type { Groups, OutlierColumns, OutsideChange, Image, Session, TagColumns } from "./api";
import type { Listing } from "./listing";
import { NOTHING, type Selection } from "./selection";

export type ScopeName = "all" | "filtered" | "selected";
export type View = "grid" | "image" | "groups";
export type SortKey = "count" | "total" | "score" | "tag";
export type Bar = "replace" | "add" | "trigger" | "scores";
export type Editing = "tag" | "text" | null;

/** An image of a group of near-duplicates. */
export interface Twin {
  readonly name: string;
  readonly v: string;
  readonly w: number;
  readonly h: number;
  readonly tags: number;
}

export interface Toast {
  readonly id: number;
  readonly says: string;
  readonly detail: string;
  readonly kind: "done" | "warning" | "error";
  /** Offer to take it back. */
  readonly undo: boolean;
}

export interface Conflict {
  readonly says: string;
  readonly changed: readonly OutsideChange[];
  readonly count: number;
  /** Do it all the same, with what stands there now. */
  readonly again: () => void;
}

export interface FilterProblem {
  readonly error: string;
  readonly hint: string;
  readonly at: number | null;
}

export interface State {
  readonly session: Session | null;
  /** Why nothing can be shown at all. */
  readonly fatal: { readonly error: string; readonly hint: string } | null;
  readonly online: boolean;
  readonly version: number;
  readonly undo: string | null;
  readonly redo: string | null;
  readonly working: boolean;

  readonly filter: string;
  readonly filterProblem: FilterProblem | null;
  readonly listing: Listing | null;
  readonly revision: number;
  readonly aspect: number;
  readonly images: number;
  readonly cursor: number;
  readonly selection: Selection;
  readonly scope: ScopeName;

  readonly image: Image | null;
  readonly view: View;
  readonly side: "tags" | "outliers";
  readonly editing: Editing;
  readonly difference: boolean;
  readonly panel: boolean;
  readonly bar: Bar | null;
  readonly sheet: boolean;
  readonly conflict: Conflict | null;
  readonly toasts: readonly Toast[];
  readonly outside: readonly string[];

  readonly tags: TagColumns | null;
  readonly tagQuery: string;
  readonly sort: SortKey;
  readonly tag: string | null;
  readonly outliers: OutlierColumns | null;
  readonly share: number;
  readonly groups: Groups | null;
  readonly groupRows: ReadonlyMap<number, Twin>;
  readonly group: number;

  readonly least: number;
  readonly theme: "light" | "dark";
}

export const START: State = {
  session: null,
  fatal: null,
  online: true,
  version: 0,
  undo: null,
  redo: null,
  working: false,
  filter: "",
  filterProblem: null,
  listing: null,
  revision: 0,
  aspect: 1,
  images: 0,
  cursor: 0,
  selection: NOTHING,
  scope: "all",
  image: null,
  view: "grid",
  side: "tags",
  editing: null,
  difference: false,
  panel: true,
  bar: null,
  sheet: false,
  conflict: null,
  toasts: [],
  outside: [],
  tags: null,
  tagQuery: "",
  sort: "count",
  tag: null,
  outliers: null,
  share: 0.8,
  groups: null,
  groupRows: new Map(),
  group: 0,
  least: 148,
  theme: "light",
};

/** The scope that follows from what was filtered and chosen: the narrowest. */
export function narrowest(filter: string, chosen: number): ScopeName {
  if (chosen > 0) return "selected";
  return filter === "" ? "all" : "filtered";
}

/** The next scope; one that is empty or the same as another is passed over. */
export function nextScope(scope: ScopeName, filter: string, chosen: number): ScopeName {
  const usable: ScopeName[] = [
    "all",
    ...(filter === "" ? [] : (["filtered"] as const)),
    ...(chosen ? (["selected"] as const) : []),
  ];
  return usable[(usable.indexOf(scope) + 1) % usable.length] ?? "all";
}

/** The rows of the tag list in the order and with the words that were asked for: places in the columns. */
export function sortedTags(tags: TagColumns, sort: SortKey, query: string): readonly number[] {
  const wanted = query.trim().toLowerCase().replaceAll("_", " ");
  const places = tags.tag.map((_, at) => at);
  const name = (at: number): string => (tags.tag[at] ?? "").toLowerCase().replaceAll("_", " ");
  const found =
    wanted === ""
      ? places
      : places.filter(
          (at) =>
            name(at).includes(wanted) ||
            (tags.translation[at] ?? "").toLowerCase().includes(wanted),
        );
  // Who types a whole tag means it, however often others hold it. The trigger is pinned: it is to stand in every
  // caption, and it is the one tag that must not be lost.
  const first = (at: number): boolean => name(at) === wanted || tags.category[at] === "trigger";
  const pinned = found
    .filter(first)
    .sort((a, b) => Number(name(b) === wanted) - Number(name(a) === wanted));
  const others = found.filter((at) => !first(at));
  if (sort === "count") return [...pinned, ...others];
  const by: Record<Exclude<SortKey, "count">, (a: number, b: number) => number> = {
    total: (a, b) => (tags.total[b] ?? 0) - (tags.total[a] ?? 0),
    // The least certain first: those are the ones to look at.
    score: (a, b) => (tags.score[a] ?? 2) - (tags.score[b] ?? 2),
    tag: (a, b) => ((tags.tag[a] ?? "") < (tags.tag[b] ?? "") ? -1 : 1),
  };
  return [...pinned, ...others.sort(by[sort])];
}
