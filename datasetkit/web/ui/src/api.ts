/** The server's API: the types of its JSON, and a function for each URL. URLs are relative. */

import { Http, query } from "./http";

export { ApiError, type CaptionConflict } from "./http";

export interface Session {
  readonly token: string;
  /** The command that serves the page; `studio` shows all tabs. */
  readonly command?: "studio" | "review";
  readonly version: number;
  readonly name: string;
  readonly read_only: boolean;
  readonly images: number;
  readonly captioned: number;
  readonly failed: readonly Failure[];
  readonly concepts: readonly Concept[];
  readonly trigger: readonly string[];
  readonly scores: boolean;
  readonly tagger: string;
  readonly threshold: number;
  readonly character_threshold: number;
  readonly translations: boolean;
  readonly notice: string;
  readonly undo: string | null;
  readonly redo: string | null;
  readonly dsk: string;
}

export interface Failure {
  readonly name: string;
  readonly error: string;
  readonly hint: string;
}

export interface Concept {
  readonly name: string;
  readonly repeats: number | null;
  readonly images: number;
  readonly trigger: readonly string[];
}

export type Scope =
  | { readonly in: "all" }
  | { readonly in: "where"; readonly where: string }
  | { readonly in: "ids"; readonly ids: readonly number[] };

/** A window of the images that match a filter, one column for each property. */
export interface ImageColumns {
  readonly version: number;
  readonly total: number;
  readonly offset: number;
  readonly id: readonly number[];
  readonly name: readonly string[];
  readonly w: readonly number[];
  readonly h: readonly number[];
  readonly v: readonly string[];
  readonly concept: readonly number[];
  /** Number of tags; -1 where there is no caption. */
  readonly tags: readonly number[];
  readonly edited: readonly number[];
}

export interface ScoredTag {
  readonly tag: string;
  readonly score: number | null;
  readonly category: string | null;
  readonly translation?: string;
}

export interface Image {
  readonly version: number;
  readonly id: number;
  readonly name: string;
  readonly folder: string;
  readonly concept: string;
  readonly repeats: number | null;
  readonly w: number;
  readonly h: number;
  readonly v: string;
  readonly bytes: number;
  readonly caption: string | null;
  readonly hash: string;
  readonly chars: number;
  readonly tokens: number;
  readonly edited: boolean;
  /** The known trigger of the image's folder. */
  readonly trigger: readonly string[];
  readonly tags: readonly ScoredTag[];
  /** What the caption has besides tags, where the dataset has captions of sentences. */
  readonly sentences: readonly string[];
  /** Tags with a good score that the caption does not have. */
  readonly other_tags: readonly ScoredTag[];
  readonly tagger: {
    readonly caption: string;
    readonly added: readonly string[];
    readonly removed: readonly string[];
  } | null;
  /** The group of near-duplicates that the image is in, by id; empty without near-duplicates. */
  readonly near_duplicates: readonly number[];
}

export interface TagColumns {
  readonly version: number;
  readonly images: number;
  readonly tag: readonly string[];
  readonly count: readonly number[];
  readonly total: readonly number[];
  readonly score: readonly (number | null)[];
  readonly category: readonly string[];
  readonly translation: readonly string[];
  readonly spellings: readonly number[];
  readonly groups: TagGroups;
}

/** Groups such as `@face` that have a tag in scope. */
export interface TagGroups {
  readonly name: readonly string[];
  /** How many images in scope have a tag of the group. */
  readonly images: readonly number[];
  /** Which rows of the tags belong to the group. */
  readonly rows: readonly (readonly number[])[];
}

export interface Completions {
  readonly tag: readonly string[];
  readonly category: readonly string[];
  readonly count: readonly number[];
  readonly translation: readonly string[];
}

export interface OutlierColumns {
  readonly version: number;
  readonly images: number;
  readonly tag: readonly string[];
  readonly count: readonly number[];
  readonly missing: readonly number[];
  readonly where: readonly string[];
}

/** What is trained: features of it are suggested to be removed. */
export const PRUNE_KINDS = ["character", "face", "garment", "style"] as const;
export type PruneKind = (typeof PRUNE_KINDS)[number];

export interface SuggestionColumns {
  readonly version: number;
  readonly images: number;
  readonly folder: readonly string[];
  readonly action: readonly ("remove" | "add")[];
  readonly tag: readonly string[];
  readonly why: readonly string[];
  readonly reason: readonly string[];
  readonly count: readonly number[];
  readonly of: readonly number[];
  readonly recommended: readonly boolean[];
  readonly where: readonly string[];
  readonly kept: readonly string[];
}

export interface NearDuplicates {
  readonly version: number;
  /** How many images were compared so far, of `total`. */
  readonly done: number;
  readonly total: number;
  readonly groups: readonly (readonly number[])[];
  /** Which groups have two copies of one image; the others differ somewhere. */
  readonly copies: readonly boolean[];
  /** How many groups are not offered, because all their images are kept. */
  readonly kept: number;
}

/** How far the running edit is; total 0: nothing is reported. */
export interface Progress {
  readonly label: string;
  readonly done: number;
  readonly total: number;
}

export interface Changes {
  readonly version: number;
  readonly ids: readonly number[];
  readonly external: readonly number[];
  readonly added: readonly number[];
  readonly removed: readonly number[];
  readonly reset: boolean;
}

export type Operation =
  | { readonly remove: readonly string[] }
  | { readonly exclude: readonly string[] }
  | { readonly replace: readonly (readonly [string, string])[] }
  | { readonly add: readonly string[] }
  | { readonly trigger: readonly string[] }
  | { readonly prune: { readonly kind: PruneKind; readonly rows: readonly string[][] } }
  | {
      readonly threshold: number;
      readonly character_threshold: number;
      readonly existing: "skip" | "overwrite";
    }
  | { readonly drop: true };

export interface EditResult {
  readonly version: number;
  readonly changed: number;
  readonly unchanged: number;
  readonly kept: number;
  readonly reason: string;
  readonly title: string;
  readonly ids: readonly number[];
  readonly undo: string | null;
  readonly redo: string | null;
  readonly tags_added: number;
  readonly tags_removed: number;
  readonly without_scores?: number;
  readonly warnings?: readonly string[];
  /** The known trigger of the dataset, after the edit. */
  readonly trigger?: readonly string[];
  /** Whether any table says what tags mean. */
  readonly translations?: boolean;
  /** Images that were removed from the dataset or restored. */
  readonly removed?: readonly number[];
  readonly restored?: readonly number[];
}

export interface Api {
  session(): Promise<Session>;
  images(where: string, offset: number, limit: number, signal?: AbortSignal): Promise<ImageColumns>;
  ids(where: string): Promise<{ readonly id: readonly number[] }>;
  image(id: number, signal?: AbortSignal): Promise<Image>;
  tags(scope: Scope, signal?: AbortSignal): Promise<TagColumns>;
  complete(query: string, limit: number, signal?: AbortSignal): Promise<Completions>;
  outliers(scope: Scope, share: number, signal?: AbortSignal): Promise<OutlierColumns>;
  suggestions(scope: Scope, kind: PruneKind, signal?: AbortSignal): Promise<SuggestionColumns>;
  nearDuplicates(): Promise<NearDuplicates>;
  /** Keep all images of a group, or offer the group again; without ids, all groups. */
  keep(keep: boolean, ids?: readonly number[]): Promise<NearDuplicates>;
  progress(): Promise<Progress>;
  changes(since: number): Promise<Changes>;
  apply(version: number, scope: Scope, operation: Operation): Promise<EditResult>;
  dryRun(
    version: number,
    scope: Scope,
    operation: Operation,
    signal?: AbortSignal,
  ): Promise<EditResult>;
  caption(version: number, id: number, hash: string, caption: string): Promise<EditResult>;
  /** Write what a tag means; "" removes it. */
  translate(tag: string, meaning: string): Promise<EditResult>;
  undo(version: number): Promise<EditResult>;
  redo(version: number): Promise<EditResult>;
}

export function thumbnail(id: number, v: string): string {
  return `thumb/${id}?v=${encodeURIComponent(v)}`;
}

export function preview(id: number, v: string): string {
  return `preview/${id}?v=${encodeURIComponent(v)}`;
}

/** Return the API over HTTP. The session's token goes with each POST. */
export function connect(http: Http = new Http()): Api {
  const get = <T>(url: string, signal?: AbortSignal): Promise<T> => http.get<T>(url, signal);
  const post = <T>(url: string, body: object, signal?: AbortSignal): Promise<T> =>
    http.post<T>(url, body, signal);
  return {
    session: async () => {
      const session = await get<Session>("api/session");
      http.token = session.token;
      return session;
    },
    images: (where, offset, limit, signal) =>
      get(`api/images?${query({ where, offset, limit })}`, signal),
    ids: (where) => get(`api/ids?${query({ where })}`),
    image: (id, signal) => get(`api/image/${id}`, signal),
    tags: (scope, signal) => post("api/tags", { scope }, signal),
    complete: (q, limit, signal) => get(`api/complete?${query({ q, limit })}`, signal),
    outliers: (scope, share, signal) => post("api/outliers", { scope, share }, signal),
    suggestions: (scope, kind, signal) => post("api/suggestions", { scope, kind }, signal),
    nearDuplicates: () => get("api/near-duplicates"),
    keep: (keep, ids) => post("api/keep", ids ? { keep, ids } : { keep }),
    progress: () => get("api/progress"),
    changes: (since) => get(`api/changes?${query({ since })}`),
    apply: (version, scope, operation) =>
      post("api/apply", { version, scope, dry_run: false, do: operation }),
    dryRun: (version, scope, operation, signal) =>
      post("api/apply", { version, scope, dry_run: true, do: operation }, signal),
    caption: (version, id, hash, caption) => post("api/caption", { version, id, hash, caption }),
    translate: (tag, meaning) => post("api/translate", { tag, meaning }),
    undo: (version) => post("api/undo", { version }),
    redo: (version) => post("api/redo", { version }),
  };
}
