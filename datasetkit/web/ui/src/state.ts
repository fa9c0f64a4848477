/** The state of the page, and pure functions of it. */

import type {
  CaptionConflict,
  Image,
  NearDuplicates,
  Operation,
  PruneKind,
  SuggestionColumns,
  OutlierColumns,
  Progress,
  Session,
  TagColumns,
  TagGroups,
} from "./api";
import type { Listing } from "./listing";
import type { Toast } from "./parts/ToastList";
import { NO_SELECTION, type Selection } from "./selection";

export type ScopeName = "all" | "filtered" | "selected";
export type View = "grid" | "image" | "near-duplicates";
export type SortKey = "count" | "total" | "score" | "tag";
export type EditBar = "replace" | "add" | "trigger" | "scores" | "meaning";
export type Editing = "tag" | "text" | null;

/** An image in a group of near-duplicates. */
export interface GroupImage {
  readonly name: string;
  readonly v: string;
  readonly w: number;
  readonly h: number;
  readonly tags: number;
}

export interface Conflict {
  readonly captions: readonly CaptionConflict[];
  readonly count: number;
  /** Apply the edit to the captions as they are now. */
  readonly applyAnyway: () => void;
}

export interface FilterProblem {
  readonly error: string;
  readonly hint: string;
  readonly position: number | null;
}

export interface State {
  readonly session: Session | null;
  /** Why the page cannot show anything. */
  readonly fatal: { readonly error: string; readonly hint: string } | null;
  readonly online: boolean;
  readonly version: number;
  readonly undo: string | null;
  readonly redo: string | null;
  readonly saving: boolean;
  /** Of an edit that takes longer than a moment. */
  readonly progress: Progress | null;

  readonly filter: string;
  readonly filterProblem: FilterProblem | null;
  readonly listing: Listing | null;
  /** Rises when the listing gets more images: the object itself stays the same. */
  readonly revision: number;
  readonly aspect: number;
  readonly images: number;
  readonly cursor: number;
  readonly selection: Selection;
  readonly scope: ScopeName;

  readonly image: Image | null;
  readonly view: View;
  readonly sidebar: "tags" | "outliers" | "suggestions";
  readonly editing: Editing;
  readonly comparing: boolean;
  readonly panelOpen: boolean;
  readonly editBar: EditBar | null;
  readonly shortcutsOpen: boolean;
  readonly conflict: Conflict | null;
  readonly toasts: readonly Toast[];
  /** What other programs changed on disk, as text. */
  readonly externalChanges: readonly string[];

  readonly tags: TagColumns | null;
  readonly tagQuery: string;
  readonly sort: SortKey;
  /** The tag under the cursor. */
  readonly tag: string | null;
  /** Tags that were selected together; empty: the tag under the cursor counts. */
  readonly tagSelection: Selection<string>;
  /** The group whose tags are selected, e.g. `@face`. */
  readonly tagGroup: string | null;
  readonly outliers: OutlierColumns | null;
  readonly share: number;
  readonly suggestions: SuggestionColumns | null;
  readonly pruneKind: PruneKind;
  readonly nearDuplicates: NearDuplicates | null;
  readonly groupImages: ReadonlyMap<number, GroupImage>;
  readonly group: number;

  readonly minCellWidth: number;
}

export const INITIAL_STATE: State = {
  session: null,
  fatal: null,
  online: true,
  version: 0,
  undo: null,
  redo: null,
  saving: false,
  progress: null,
  filter: "",
  filterProblem: null,
  listing: null,
  revision: 0,
  aspect: 1,
  images: 0,
  cursor: 0,
  selection: NO_SELECTION,
  scope: "all",
  image: null,
  view: "grid",
  sidebar: "tags",
  editing: null,
  comparing: false,
  panelOpen: true,
  editBar: null,
  shortcutsOpen: false,
  conflict: null,
  toasts: [],
  externalChanges: [],
  tags: null,
  tagQuery: "",
  sort: "count",
  tag: null,
  tagSelection: NO_SELECTION,
  tagGroup: null,
  outliers: null,
  share: 0.8,
  suggestions: null,
  pruneKind: "character",
  nearDuplicates: null,
  groupImages: new Map(),
  group: 0,
  minCellWidth: 148,
};

/** The narrowest scope that is not empty. */
export function narrowestScope(filter: string, selected: number): ScopeName {
  if (selected > 0) return "selected";
  return filter === "" ? "all" : "filtered";
}

/** The next scope; skips "filtered" without a filter and "selected" without a selection. */
export function nextScope(scope: ScopeName, filter: string, selected: number): ScopeName {
  const scopes: ScopeName[] = ["all"];
  if (filter !== "") scopes.push("filtered");
  if (selected > 0) scopes.push("selected");
  return scopes[(scopes.indexOf(scope) + 1) % scopes.length] ?? "all";
}

/** The tags that an edit of the tag list is about, e.g. for Del. */
export function targetTags(state: Pick<State, "tag" | "tagSelection">): readonly string[] {
  if (state.tagSelection.ids.size > 0) return [...state.tagSelection.ids];
  return state.tag === null ? [] : [state.tag];
}

/** The operation that removes them: a group as a whole, else tag by tag. */
export function removal(state: Pick<State, "tag" | "tagSelection" | "tagGroup">): Operation | null {
  if (state.tagGroup !== null) return { exclude: [state.tagGroup] };
  const remove = targetTags(state);
  return remove.length ? { remove } : null;
}

/** The first group whose name begins with a query such as `@fa`: its index, or -1. */
export function groupFor(groups: TagGroups, query: string): number {
  const wanted = query.trim().toLowerCase();
  return wanted.startsWith("@") ? groups.name.findIndex((name) => name.startsWith(wanted)) : -1;
}

/** How many images an edit of a scope applies to. */
export function scopeSize(
  state: Pick<State, "scope" | "images" | "listing" | "selection" | "filter">,
): number {
  if (state.scope === "selected") return state.selection.ids.size;
  const filtered = state.scope === "filtered" && state.filter.trim() !== "";
  return filtered ? (state.listing?.total ?? 0) : state.images;
}

/**
 * The rows of the tag list that match a query, sorted: indices into the columns. A query such as
 * `@face` matches the tags of the group.
 */
export function sortedTags(tags: TagColumns, sort: SortKey, query: string): readonly number[] {
  const wanted = query.trim().toLowerCase().replaceAll("_", " ");
  const rows = tags.tag.map((_, row) => row);
  const name = (row: number): string => (tags.tag[row] ?? "").toLowerCase().replaceAll("_", " ");
  const translation = (row: number): string => (tags.translation[row] ?? "").toLowerCase();
  const members = new Set(tags.groups.rows[groupFor(tags.groups, query)]);
  const matches =
    wanted === ""
      ? rows
      : rows.filter(
          (row) =>
            name(row).includes(wanted) || translation(row).includes(wanted) || members.has(row),
        );
  // A tag typed in full comes first, however rare it is. Triggers come next: they belong in every
  // caption and must not be lost.
  const isPinned = (row: number): boolean =>
    name(row) === wanted || tags.category[row] === "trigger";
  const pinned = matches
    .filter(isPinned)
    .sort((a, b) => Number(name(b) === wanted) - Number(name(a) === wanted));
  const others = matches.filter((row) => !isPinned(row));
  // The server sorts by count.
  if (sort === "count") return [...pinned, ...others];
  const compare: Record<Exclude<SortKey, "count">, (a: number, b: number) => number> = {
    total: (a, b) => (tags.total[b] ?? 0) - (tags.total[a] ?? 0),
    // The lowest score first: these tags need a look.
    score: (a, b) => (tags.score[a] ?? 2) - (tags.score[b] ?? 2),
    tag: (a, b) => ((tags.tag[a] ?? "") < (tags.tag[b] ?? "") ? -1 : 1),
  };
  return [...pinned, ...others.sort(compare[sort])];
}
