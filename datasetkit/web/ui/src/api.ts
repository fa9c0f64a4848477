/** The server as the page sees it: the shapes of its JSON, and one function for each address. All are relative. */

export interface Session {
  readonly token: string;
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

/** A window of the images that match, a column for each fact. */
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
  readonly tags: readonly ScoredTag[];
  readonly near: readonly ScoredTag[];
  readonly tagger: {
    readonly caption: string;
    readonly added: readonly string[];
    readonly removed: readonly string[];
  } | null;
  readonly group: readonly number[];
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
  readonly lacking: readonly number[];
  readonly where: readonly string[];
}

export interface Groups {
  readonly version: number;
  readonly done: number;
  readonly of: number;
  readonly groups: readonly (readonly number[])[];
}

export interface Changes {
  readonly version: number;
  readonly ids: readonly number[];
  readonly outside: readonly number[];
  readonly added: readonly number[];
  readonly removed: readonly number[];
  readonly reset: boolean;
}

export type Operation =
  | { readonly remove: readonly string[] }
  | { readonly replace: readonly (readonly [string, string])[] }
  | { readonly add: readonly string[] }
  | { readonly trigger: readonly string[] }
  | {
      readonly threshold: number;
      readonly character_threshold: number;
      readonly existing: "skip" | "overwrite";
    }
  | { readonly drop: true };

export interface Applied {
  readonly version: number;
  readonly changed: number;
  readonly unchanged: number;
  readonly kept: number;
  readonly why: string;
  readonly title: string;
  readonly ids: readonly number[];
  readonly undo: string | null;
  readonly redo: string | null;
  readonly added: number;
  readonly removed: number;
  readonly without_scores?: number;
  readonly warnings?: readonly string[];
  readonly gone?: readonly number[];
  readonly back?: readonly number[];
}

export interface OutsideChange {
  readonly id: number;
  readonly name: string;
  readonly known: string | null;
  readonly now: string | null;
  readonly added: readonly string[];
  readonly removed: readonly string[];
}

/** An answer that is not 2xx, or none at all (status 0). */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint = "",
    readonly at: number | null = null,
    readonly version: number | null = null,
    readonly changed: readonly OutsideChange[] = [],
    readonly count = 0,
  ) {
    super(message);
  }
}

export interface Api {
  session(): Promise<Session>;
  images(where: string, offset: number, limit: number, signal?: AbortSignal): Promise<ImageColumns>;
  ids(where: string): Promise<{ readonly id: readonly number[] }>;
  image(id: number, signal?: AbortSignal): Promise<Image>;
  tags(scope: Scope, signal?: AbortSignal): Promise<TagColumns>;
  complete(query: string, limit: number, signal?: AbortSignal): Promise<Completions>;
  outliers(scope: Scope, share: number, signal?: AbortSignal): Promise<OutlierColumns>;
  duplicates(): Promise<Groups>;
  changes(since: number): Promise<Changes>;
  apply(version: number, scope: Scope, operation: Operation): Promise<Applied>;
  dryRun(
    version: number,
    scope: Scope,
    operation: Operation,
    signal?: AbortSignal,
  ): Promise<Applied>;
  caption(version: number, id: number, hash: string, caption: string): Promise<Applied>;
  undo(version: number): Promise<Applied>;
  redo(version: number): Promise<Applied>;
}

export function thumbnail(id: number, v: string): string {
  return `thumb/${id}?v=${encodeURIComponent(v)}`;
}

export function preview(id: number, v: string): string {
  return `preview/${id}?v=${encodeURIComponent(v)}`;
}

/** The server over HTTP. The token of the session stays in memory and goes with each POST. */
export function connect(fetcher: typeof fetch = (input, init) => fetch(input, init)): Api {
  let token = "";

  async function call<T>(address: string, init?: RequestInit): Promise<T> {
    let answer: Response;
    try {
      answer = await fetcher(address, { credentials: "same-origin", ...init });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new Refused(
        0,
        "dsk review does not answer",
        "start it again and open the address that it prints",
      );
    }
    if (answer.ok) return (await answer.json()) as T;
    throw await refusal(answer);
  }

  const get = <T>(address: string, signal?: AbortSignal): Promise<T> =>
    call<T>(address, signal ? { signal } : {});
  const post = <T>(address: string, body: object, signal?: AbortSignal): Promise<T> =>
    call<T>(address, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Dsk-Token": token },
      body: JSON.stringify(body),
      ...(signal ? { signal } : {}),
    });
  const query = (values: Record<string, string | number>): string =>
    new URLSearchParams(
      Object.entries(values).map(([key, value]) => [key, String(value)]),
    ).toString();

  return {
    session: async () => {
      const session = await get<Session>("api/session");
      token = session.token;
      return session;
    },
    images: (where, offset, limit, signal) =>
      get(`api/images?${query({ where, offset, limit })}`, signal),
    ids: (where) => get(`api/ids?${query({ where })}`),
    image: (id, signal) => get(`api/image/${id}`, signal),
    tags: (scope, signal) => post("api/tags", { scope }, signal),
    complete: (q, limit, signal) => get(`api/complete?${query({ q, limit })}`, signal),
    outliers: (scope, share, signal) => post("api/outliers", { scope, share }, signal),
    duplicates: () => get("api/duplicates"),
    changes: (since) => get(`api/changes?${query({ since })}`),
    apply: (version, scope, operation) =>
      post("api/apply", { version, scope, dry_run: false, do: operation }),
    dryRun: (version, scope, operation, signal) =>
      post("api/apply", { version, scope, dry_run: true, do: operation }, signal),
    caption: (version, id, hash, caption) => post("api/caption", { version, id, hash, caption }),
    undo: (version) => post("api/undo", { version }),
    redo: (version) => post("api/redo", { version }),
  };
}

async function refusal(answer: Response): Promise<Refused> {
  try {
    const said = (await answer.json()) as Partial<Record<string, unknown>>;
    return new Refused(
      answer.status,
      String(said["error"] ?? answer.statusText),
      String(said["hint"] ?? ""),
      typeof said["at"] === "number" ? said["at"] : null,
      typeof said["version"] === "number" ? said["version"] : null,
      Array.isArray(said["changed"]) ? (said["changed"] as OutsideChange[]) : [],
      typeof said["count"] === "number" ? said["count"] : 0,
    );
  } catch {
    return new Refused(
      answer.status,
      `the server answered ${answer.status} ${answer.statusText}`.trim(),
    );
  }
}
