import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Api, Applied, Operation, Image, ImageColumns, Scope, Session } from "../src/api";
import { Refused } from "../src/api";
import { Review } from "../src/review";

const SESSION: Session = {
  token: "t",
  version: 1,
  name: "set",
  read_only: false,
  images: 3,
  captioned: 3,
  failed: [],
  concepts: [],
  trigger: ["sylvie"],
  scores: true,
  tagger: "basic@1",
  threshold: 0.35,
  character_threshold: 0.85,
  translations: false,
  notice: "",
  undo: null,
  redo: null,
  dsk: "0",
};

function applied(version: number, more: Partial<Applied> = {}): Applied {
  return {
    version,
    changed: 2,
    unchanged: 0,
    kept: 0,
    why: "",
    title: "remove lips from 2 captions",
    ids: [1, 2],
    undo: "remove lips",
    redo: null,
    added: 0,
    removed: 2,
    ...more,
  };
}

function images(total = 3): ImageColumns {
  const id = Array.from({ length: total }, (_, at) => at + 1);
  return {
    version: 1,
    total,
    offset: 0,
    id,
    name: id.map((n) => `${n}.png`),
    w: id,
    h: id,
    v: id.map(String),
    concept: id,
    tags: id,
    edited: id.map(() => 0),
  };
}

function image(id: number, caption: string, version = 1): Image {
  const tags = caption.split(", ").map((tag) => ({ tag, score: null, category: null }));
  return {
    version,
    id,
    name: `${id}.png`,
    folder: "",
    concept: "set",
    repeats: null,
    w: 1,
    h: 1,
    v: "v",
    bytes: 1,
    caption,
    hash: `hash of ${caption}`,
    chars: 1,
    tokens: 1,
    edited: false,
    tags,
    near: [],
    tagger: null,
    group: [],
  };
}

interface Asked {
  readonly version: number;
  readonly scope?: Scope;
  readonly operation?: Operation;
  readonly written?: readonly [number, string, string];
}

function fake(
  answers: (asked: Asked) => Promise<Applied>,
  more: Partial<Api> = {},
): { readonly api: Api; readonly asked: Asked[] } {
  const asked: Asked[] = [];
  const answer = (question: Asked) => {
    asked.push(question);
    return answers(question);
  };
  const api: Api = {
    session: () => Promise.resolve(SESSION),
    images: () => Promise.resolve(images()),
    ids: () => Promise.resolve({ id: [1, 2, 3] }),
    image: () => Promise.reject(new Refused(404, "no")),
    tags: () =>
      Promise.resolve({
        version: 1,
        images: 3,
        tag: ["lips"],
        count: [2],
        total: [2],
        score: [0.5],
        category: ["general"],
        translation: [""],
        spellings: [1],
      }),
    complete: () => Promise.resolve({ tag: [], category: [], count: [], translation: [] }),
    outliers: () =>
      Promise.resolve({ version: 1, images: 3, tag: [], count: [], lacking: [], where: [] }),
    duplicates: () => Promise.resolve({ version: 1, done: 3, of: 3, groups: [[1, 2, 3]] }),
    changes: (since) =>
      Promise.resolve({
        version: since,
        ids: [],
        outside: [],
        added: [],
        removed: [],
        reset: false,
      }),
    apply: (version, scope, operation) => answer({ version, scope, operation }),
    dryRun: (version) => Promise.resolve(applied(version)),
    caption: (version, id, hash, caption) => answer({ version, written: [id, hash, caption] }),
    undo: (version) => answer({ version }),
    redo: (version) => answer({ version }),
    ...more,
  };
  return { api, asked };
}

async function begun(api: Api): Promise<Review> {
  const review = new Review(api);
  await review.begin();
  return review;
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("changing", () => {
  test("edits go one after the other, each with the version that the former returned", async () => {
    const { api, asked } = fake(({ version }) => Promise.resolve(applied(version + 1)));
    const review = await begun(api);
    await Promise.all([review.removeTag("lips"), review.removeTag("nose"), review.undo()]);
    expect(asked.map(({ version }) => version)).toEqual([1, 2, 3]);
    expect(review.store.get().version).toBe(4);
  });

  test("an edit reaches the scope that the chip shows", async () => {
    const { api, asked } = fake(({ version }) => Promise.resolve(applied(version + 1)));
    const review = await begun(api);
    await review.removeTag("lips");
    await review.filterBy("tag:lips");
    await review.removeTag("lips");
    review.choose(1);
    expect(review.store.get().scope).toBe("selected");
    await review.removeTag("lips");
    review.cycleScope();
    await review.removeTag("lips");
    expect(asked.map(({ scope }) => scope)).toEqual([
      { in: "all" },
      { in: "where", where: "tag:lips" },
      { in: "ids", ids: [2] },
      { in: "all" },
    ]);
  });

  test("a change from outside is shown, and done all the same only when asked", async () => {
    let conflicts = 1;
    const changed = [{ id: 1, name: "1.png", known: "a", now: "b", added: ["b"], removed: ["a"] }];
    const { api, asked } = fake(({ version }) =>
      conflicts-- > 0
        ? Promise.reject(new Refused(409, "changed", "", null, 7, changed, 1))
        : Promise.resolve(applied(version + 1)),
    );
    const review = await begun(api);
    expect(await review.removeTag("lips")).toBe(false);
    expect(review.store.get().conflict).toMatchObject({ changed, count: 1 });
    expect(asked).toHaveLength(1);
    review.store.get().conflict?.again();
    await vi.runOnlyPendingTimersAsync();
    expect(review.store.get().conflict).toBeNull();
    expect(asked.map(({ version }) => version)).toEqual([1, 7]);
  });

  test("an edit after a refused one is still made", async () => {
    let refusals = 1;
    const { api } = fake(({ version }) =>
      refusals-- > 0
        ? Promise.reject(new Refused(507, "disk full"))
        : Promise.resolve(applied(version + 1)),
    );
    const review = await begun(api);
    expect(await review.removeTag("lips")).toBe(false);
    expect(await review.removeTag("lips")).toBe(true);
    expect(review.store.get().toasts.map((toast) => toast.kind)).toEqual(["error", "done"]);
  });

  test("a page that only reads asks the server for nothing", async () => {
    const { api, asked } = fake(({ version }) => Promise.resolve(applied(version)), {
      session: () => Promise.resolve({ ...SESSION, read_only: true }),
    });
    const review = await begun(api);
    await review.removeTag("lips");
    expect(asked).toEqual([]);
    expect(review.store.get().toasts).toHaveLength(1);
  });

  test("images that went are no longer chosen", async () => {
    const { api } = fake(({ version }) => Promise.resolve(applied(version + 1, { gone: [2] })));
    const review = await begun(api);
    review.choose(1);
    await review.exclude();
    expect(review.store.get().selection.chosen.size).toBe(0);
    expect(review.store.get().scope).toBe("all");
  });

  test("undo behind an edit takes back that edit, not the one before", async () => {
    const { api, asked } = fake(({ version }) => Promise.resolve(applied(version + 1)));
    const review = await begun(api);
    await Promise.all([review.removeTag("lips"), review.undo()]);
    expect(asked.map(({ operation }) => operation)).toEqual([{ remove: ["lips"] }, undefined]);
  });

  test("an edit waits for the images that the filter shows, and is refused where that cannot be read", async () => {
    const { api, asked } = fake(({ version }) => Promise.resolve(applied(version + 1)), {
      images: (where) =>
        where === "("
          ? Promise.reject(new Refused(400, "a bracket is open"))
          : Promise.resolve(images()),
    });
    const review = await begun(api);
    await Promise.all([review.filterBy("tag:lips"), review.removeTag("lips")]);
    await Promise.all([review.filterBy("("), review.removeTag("lips")]);
    expect(asked.map(({ scope }) => scope)).toEqual([{ in: "where", where: "tag:lips" }]);
    expect(review.store.get().toasts.at(-1)).toMatchObject({
      kind: "error",
      detail: "a bracket is open",
    });
  });

  test("the image under the cursor is excluded, although another one was read last", async () => {
    const { api, asked } = fake(({ version }) => Promise.resolve(applied(version + 1)), {
      image: (id) => Promise.resolve(image(id, "a")),
    });
    const review = await begun(api);
    await review.read(1);
    review.moveTo(1);
    await review.exclude();
    expect(asked[0]?.scope).toEqual({ in: "ids", ids: [2] });
  });

  test("tags go behind the caption as the edits before left it", async () => {
    let caption = "a, b";
    const { api, asked } = fake(
      ({ version, written }) => {
        caption = written?.[2] ?? caption;
        return Promise.resolve(applied(version + 1, { ids: [1] }));
      },
      { image: (id) => Promise.resolve(image(id, caption)) },
    );
    const review = await begun(api);
    await review.read(1);
    await Promise.all([review.addTags(1, ["c"]), review.removeFrom(1, "a")]);
    expect(asked.map(({ written }) => written)).toEqual([
      [1, "hash of a, b", "a, b, c"],
      [1, "hash of a, b, c", "b, c"],
    ]);
  });

  test("what is being typed is left alone when an edit from before is done", async () => {
    const { api } = fake(({ version }) => Promise.resolve(applied(version + 1)));
    const review = await begun(api);
    const removed = review.removeTag("lips");
    review.store.set({ editing: "text" });
    await removed;
    expect(review.store.get().editing).toBe("text");
  });

  test("an edit that changed nothing says so", async () => {
    const { api } = fake(({ version }) =>
      Promise.resolve(applied(version, { changed: 0, ids: [] })),
    );
    const review = await begun(api);
    await review.removeTag("lips");
    expect(review.store.get().toasts[0]).toMatchObject({ says: "Nothing to change.", undo: false });
  });

  test("keeping one of a group excludes the others", async () => {
    const { api, asked } = fake(({ version }) => Promise.resolve(applied(version + 1)));
    const review = await begun(api);
    await review.findGroups();
    await review.keepOne(2);
    expect(asked[0]).toMatchObject({
      scope: { in: "ids", ids: [1, 3] },
      operation: { drop: true },
    });
  });
});

describe("filtering", () => {
  test("a bad expression keeps the images and says where it is bad", async () => {
    const { api } = fake(() => Promise.reject(new Error("no edit")), {
      images: (where) =>
        where === ""
          ? Promise.resolve(images())
          : Promise.reject(new Refused(400, "a bracket is open", "close it", 3)),
    });
    const review = await begun(api);
    await review.filterBy("(a");
    expect(review.store.get().filterProblem).toEqual({
      error: "a bracket is open",
      hint: "close it",
      at: 3,
    });
    expect(review.store.get().listing?.total).toBe(3);
    await review.filterBy("");
    expect(review.store.get().filterProblem).toBeNull();
  });

  test("the cursor stays within what is left", async () => {
    let total = 3;
    const { api } = fake(({ version }) => Promise.resolve(applied(version + 1)), {
      images: () => Promise.resolve(images(total)),
    });
    const review = await begun(api);
    review.moveTo(2);
    total = 1;
    await review.removeTag("lips");
    expect(review.store.get().cursor).toBe(0);
  });
});

describe("outliers", () => {
  test("those of a scope stay listed while one after the other is looked at", async () => {
    const scopes: Scope[] = [];
    const shown: string[] = [];
    const { api } = fake(() => Promise.reject(new Error("no edit")), {
      outliers: (scope) => {
        scopes.push(scope);
        return Promise.resolve({
          version: 1,
          images: 3,
          tag: ["a", "b"],
          count: [2, 2],
          lacking: [1, 1],
          where: ['NOT tag:"a"', 'NOT tag:"b"'],
        });
      },
      images: (where) => {
        shown.push(where);
        return Promise.resolve(images());
      },
    });
    const review = await begun(api);
    await review.filterBy("tag:x OR tag:y");
    await review.openOutliers();
    await review.showLacking('NOT tag:"a"');
    await review.showLacking('NOT tag:"b"');
    expect(shown.slice(-2)).toEqual([
      '(tag:x OR tag:y) AND NOT tag:"a"',
      '(tag:x OR tag:y) AND NOT tag:"b"',
    ]);
    expect(scopes).toEqual([{ in: "where", where: "tag:x OR tag:y" }]);
    await review.filterBy("");
    expect(scopes.at(-1)).toEqual({ in: "all" });
  });
});

describe("watching", () => {
  test("what another program changed is told, and taken as seen", async () => {
    const { api } = fake(() => Promise.reject(new Error("no edit")), {
      changes: () =>
        Promise.resolve({
          version: 5,
          ids: [2],
          outside: [2],
          added: [],
          removed: [],
          reset: false,
        }),
    });
    const review = await begun(api);
    await review.catchUp();
    expect(review.store.get().version).toBe(5);
    expect(review.store.get().outside).toEqual(["1 caption changed: 2.png"]);
  });

  test("a server that is gone is said, and forgotten when it is back", async () => {
    let gone = true;
    const { api } = fake(() => Promise.reject(new Error("no edit")), {
      changes: (since) =>
        gone
          ? Promise.reject(new Refused(0, "no answer"))
          : Promise.resolve({
              version: since,
              ids: [],
              outside: [],
              added: [],
              removed: [],
              reset: false,
            }),
    });
    const review = await begun(api);
    await review.catchUp();
    expect(review.store.get().online).toBe(false);
    gone = false;
    await review.catchUp();
    expect(review.store.get().online).toBe(true);
  });

  test("a review that has ended says how to come back", async () => {
    const { api } = fake(() => Promise.reject(new Error("no edit")), {
      session: () => Promise.reject(new Refused(401, "no cookie")),
    });
    const review = await begun(api);
    expect(review.store.get().fatal?.hint).toContain("dsk review");
  });
});
