import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Api, EditResult, Image, ImageColumns, Operation, Scope, Session } from "../src/api";
import { ApiError } from "../src/api";
import { progressText, Review } from "../src/review";

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

function edited(version: number, more: Partial<EditResult> = {}): EditResult {
  return {
    version,
    changed: 2,
    unchanged: 0,
    kept: 0,
    reason: "",
    title: "remove lips (2 captions)",
    ids: [1, 2],
    undo: "remove lips",
    redo: null,
    tags_added: 0,
    tags_removed: 2,
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
    trigger: ["sylvie"],
    tags,
    sentences: [],
    other_tags: [],
    tagger: null,
    near_duplicates: [],
  };
}

interface SentEdit {
  readonly version: number;
  readonly scope?: Scope;
  readonly operation?: Operation;
  readonly written?: readonly [number, string, string];
  readonly meaning?: readonly [string, string];
}

function fakeApi(
  respondTo: (sent: SentEdit) => Promise<EditResult>,
  more: Partial<Api> = {},
): { readonly api: Api; readonly sent: SentEdit[] } {
  const sent: SentEdit[] = [];
  const respond = (edit: SentEdit) => {
    sent.push(edit);
    return respondTo(edit);
  };
  const api: Api = {
    session: () => Promise.resolve(SESSION),
    images: () => Promise.resolve(images()),
    ids: () => Promise.resolve({ id: [1, 2, 3] }),
    image: () => Promise.reject(new ApiError(404, "no")),
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
        groups: { name: ["@face"], images: [2], rows: [[0]] },
      }),
    complete: () => Promise.resolve({ tag: [], category: [], count: [], translation: [] }),
    outliers: () =>
      Promise.resolve({ version: 1, images: 3, tag: [], count: [], missing: [], where: [] }),
    suggestions: () =>
      Promise.resolve({
        version: 1,
        images: 3,
        folder: ["set", "set"],
        action: ["remove", "remove"],
        tag: ["lips", "cup"],
        why: ["fixed", "singleton"],
        reason: ["a part of the face", "in one caption only"],
        count: [2, 1],
        of: [3, 3],
        recommended: [true, false],
        where: [`tag:"lips"`, `tag:"cup"`],
        kept: [],
      }),
    nearDuplicates: () =>
      Promise.resolve({
        version: 1,
        done: 3,
        total: 3,
        groups: [[1, 2, 3]],
        copies: [true],
        kept: 0,
      }),
    keep: () => Promise.resolve({ version: 1, done: 3, total: 3, groups: [], copies: [], kept: 1 }),
    progress: () => Promise.resolve({ label: "", done: 0, total: 0 }),
    changes: (since) =>
      Promise.resolve({
        version: since,
        ids: [],
        external: [],
        added: [],
        removed: [],
        reset: false,
      }),
    apply: (version, scope, operation) => respond({ version, scope, operation }),
    dryRun: (version) => Promise.resolve(edited(version)),
    caption: (version, id, hash, caption) => respond({ version, written: [id, hash, caption] }),
    translate: (tag, meaning) => respond({ version: 0, meaning: [tag, meaning] }),
    undo: (version) => respond({ version }),
    redo: (version) => respond({ version }),
    ...more,
  };
  return { api, sent };
}

async function started(api: Api): Promise<Review> {
  const review = new Review(api);
  await review.start();
  return review;
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("edits", () => {
  test("edits run one by one, each with the version that the previous one returned", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)));
    const review = await started(api);
    await Promise.all([
      review.apply({ remove: ["lips"] }),
      review.apply({ remove: ["nose"] }),
      review.undo(),
    ]);
    expect(sent.map(({ version }) => version)).toEqual([1, 2, 3]);
    expect(review.store.get().version).toBe(4);
  });

  test("an edit applies to the scope that the page shows", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)));
    const review = await started(api);
    await review.apply({ remove: ["lips"] });
    await review.setFilter("tag:lips");
    await review.apply({ remove: ["lips"] });
    review.toggleSelected(1);
    expect(review.store.get().scope).toBe("selected");
    await review.apply({ remove: ["lips"] });
    review.cycleScope();
    await review.apply({ remove: ["lips"] });
    expect(sent.map(({ scope }) => scope)).toEqual([
      { in: "all" },
      { in: "where", where: "tag:lips" },
      { in: "ids", ids: [2] },
      { in: "all" },
    ]);
  });

  test("a conflict is shown, and the edit applied only when confirmed", async () => {
    let failures = 1;
    const conflicts = [
      { id: 1, name: "1.png", expected: "a", current: "b", added: ["b"], removed: ["a"] },
    ];
    const { api, sent } = fakeApi(({ version }) =>
      failures-- > 0
        ? Promise.reject(new ApiError(409, "changed", "", null, 7, conflicts, 1))
        : Promise.resolve(edited(version + 1)),
    );
    const review = await started(api);
    expect(await review.apply({ remove: ["lips"] })).toBe(false);
    expect(review.store.get().conflict).toMatchObject({ captions: conflicts, count: 1 });
    expect(sent).toHaveLength(1);
    review.store.get().conflict?.applyAnyway();
    await vi.runOnlyPendingTimersAsync();
    expect(review.store.get().conflict).toBeNull();
    expect(sent.map(({ version }) => version)).toEqual([1, 7]);
  });

  test("an edit after a failed one still runs", async () => {
    let refusals = 1;
    const { api } = fakeApi(({ version }) =>
      refusals-- > 0
        ? Promise.reject(new ApiError(507, "disk full"))
        : Promise.resolve(edited(version + 1)),
    );
    const review = await started(api);
    expect(await review.apply({ remove: ["lips"] })).toBe(false);
    expect(await review.apply({ remove: ["lips"] })).toBe(true);
    expect(review.store.get().toasts.map((toast) => toast.kind)).toEqual(["error", "done"]);
  });

  test("a read-only page sends no edits", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version)), {
      session: () => Promise.resolve({ ...SESSION, read_only: true }),
    });
    const review = await started(api);
    await review.apply({ remove: ["lips"] });
    expect(sent).toEqual([]);
    expect(review.store.get().toasts).toHaveLength(1);
  });

  test("removed images are deselected", async () => {
    const { api } = fakeApi(({ version }) =>
      Promise.resolve(edited(version + 1, { removed: [2] })),
    );
    const review = await started(api);
    review.toggleSelected(1);
    await review.exclude();
    expect(review.store.get().selection.ids.size).toBe(0);
    expect(review.store.get().scope).toBe("all");
  });

  test("undo right after an edit reverts that edit, not the one before", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)));
    const review = await started(api);
    await Promise.all([review.apply({ remove: ["lips"] }), review.undo()]);
    expect(sent.map(({ operation }) => operation)).toEqual([{ remove: ["lips"] }, undefined]);
  });

  test("an edit waits for the filter, and is refused if the filter is not valid", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)), {
      images: (where) =>
        where === "("
          ? Promise.reject(new ApiError(400, "a bracket is open"))
          : Promise.resolve(images()),
    });
    const review = await started(api);
    await Promise.all([review.setFilter("tag:lips"), review.apply({ remove: ["lips"] })]);
    await Promise.all([review.setFilter("("), review.apply({ remove: ["lips"] })]);
    expect(sent.map(({ scope }) => scope)).toEqual([{ in: "where", where: "tag:lips" }]);
    expect(review.store.get().toasts.at(-1)).toMatchObject({
      kind: "error",
      detail: "a bracket is open",
    });
  });

  test("the image under the cursor is excluded even if another one was loaded last", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)), {
      image: (id) => Promise.resolve(image(id, "a")),
    });
    const review = await started(api);
    await review.loadImage(1);
    review.moveTo(1);
    await review.exclude();
    expect(sent[0]?.scope).toEqual({ in: "ids", ids: [2] });
  });

  test("tags are appended to the caption that the previous edits left", async () => {
    let caption = "a, b";
    const { api, sent } = fakeApi(
      ({ version, written }) => {
        caption = written?.[2] ?? caption;
        return Promise.resolve(edited(version + 1, { ids: [1] }));
      },
      { image: (id) => Promise.resolve(image(id, caption)) },
    );
    const review = await started(api);
    await review.loadImage(1);
    await Promise.all([review.addTags(1, ["c"]), review.removeTagFromImage(1, "a")]);
    expect(sent.map(({ written }) => written)).toEqual([
      [1, "hash of a, b", "a, b, c"],
      [1, "hash of a, b, c", "b, c"],
    ]);
  });

  test("a caption with sentences is not taken apart: the server changes its tags", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)), {
      image: (id) =>
        Promise.resolve({
          ...image(id, "a, b"),
          caption: "a, b\nA girl, asleep.",
          sentences: ["A girl, asleep."],
        }),
    });
    const review = await started(api);
    await review.loadImage(1);
    await Promise.all([review.addTags(1, ["c"]), review.removeTagFromImage(1, "a")]);
    const scope = { in: "ids", ids: [1] };
    expect(sent.map(({ operation }) => operation)).toEqual([{ add: ["c"] }, { remove: ["a"] }]);
    expect(sent.map((edit) => edit.scope)).toEqual([scope, scope]);
  });

  test("ticked suggestions are taken by their keys, in the scope that they were made for", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)));
    const review = await started(api);
    await review.openSuggestions();
    expect(review.store.get().suggestions?.tag).toEqual(["lips", "cup"]);
    await review.takeSuggestions([0]);
    expect(sent[0]?.operation).toEqual({
      prune: { kind: "character", rows: [["set", "remove", "lips", "fixed"]] },
    });
    expect(sent[0]?.scope).toEqual({ in: "all" });
    expect(await review.takeSuggestions([])).toBe(false);
  });

  test("an edit that finishes does not close the text field", async () => {
    const { api } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)));
    const review = await started(api);
    const removed = review.apply({ remove: ["lips"] });
    review.store.set({ editing: "text" });
    await removed;
    expect(review.store.get().editing).toBe("text");
  });

  test("an edit without changes says so", async () => {
    const { api } = fakeApi(({ version }) =>
      Promise.resolve(edited(version, { changed: 0, ids: [] })),
    );
    const review = await started(api);
    await review.apply({ remove: ["lips"] });
    expect(review.store.get().toasts[0]).toMatchObject({
      message: "Nothing to change.",
      undo: false,
    });
  });

  test("keeping one image of a group excludes the others", async () => {
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)));
    const review = await started(api);
    await review.showNearDuplicates();
    await review.keepOne(2);
    expect(sent[0]).toMatchObject({
      scope: { in: "ids", ids: [1, 3] },
      operation: { drop: true },
    });
  });
});

describe("tags", () => {
  const order = ["lips", "nose", "smile", "solo"];
  const many = {
    version: 1,
    images: 3,
    tag: order,
    count: [2, 2, 1, 3],
    total: [2, 2, 1, 3],
    score: [null, null, null, null],
    category: ["", "", "", ""],
    translation: ["", "", "", ""],
    spellings: [1, 1, 1, 1],
    groups: { name: ["@face"], images: [2], rows: [[0, 1]] },
  };
  const withTags = () => {
    let tags = many;
    const fake = fakeApi(({ version }) => Promise.resolve(edited(version + 1)), {
      tags: () => Promise.resolve(tags),
    });
    const only = (names: readonly string[]) => {
      tags = { ...many, tag: names as string[] };
    };
    return { ...fake, only };
  };

  test("Shift selects a range, Ctrl single tags, and one removal takes them all", async () => {
    const { api, sent } = withTags();
    const review = await started(api);
    review.moveToTag(order, 1);
    review.moveToTag(order, 3, true);
    expect([...review.store.get().tagSelection.ids]).toEqual(["nose", "smile", "solo"]);
    review.moveToTag(order, 2, true);
    review.toggleTag(order, 0);
    await review.removeTags();
    expect(sent[0]?.operation).toEqual({ remove: ["nose", "smile", "lips"] });
  });

  test("the first click with Ctrl keeps the tag under the cursor, Space does not add it", async () => {
    const { api } = withTags();
    const review = await started(api);
    review.moveToTag(order, 1);
    review.toggleTag(order, 3, true);
    expect([...review.store.get().tagSelection.ids]).toEqual(["nose", "solo"]);
    review.moveToTag(order, 0);
    expect(review.store.get().tagSelection.ids.size).toBe(0);
    review.toggleTag(order, 0);
    review.moveToTag(order, 0);
    review.selectAllTags(order);
    expect(review.store.get().tagSelection.ids.size).toBe(4);
  });

  test("a group is removed in one operation, unless a tag of it was deselected", async () => {
    const { api, sent } = withTags();
    const review = await started(api);
    expect(review.selectSearchedGroup("@fa")).toBe(true);
    expect([...review.store.get().tagSelection.ids]).toEqual(["lips", "nose"]);
    await review.removeTags();
    review.selectTagGroup("@face");
    review.toggleTag(order, 0);
    await review.removeTags();
    expect(sent.map(({ operation }) => operation)).toEqual([
      { exclude: ["@face"] },
      { remove: ["nose"] },
    ]);
    expect(review.selectTagGroup("@hair")).toBe(false);
    expect(review.selectSearchedGroup("lips")).toBe(false);
  });

  test("removed tags are no longer selected", async () => {
    const { api, only } = withTags();
    const review = await started(api);
    review.selectTagGroup("@face");
    only(["nose", "solo"]);
    await review.removeTags();
    expect([...review.store.get().tagSelection.ids]).toEqual(["nose"]);
    expect(review.store.get().tagGroup).toBeNull();
  });
});

describe("near-duplicates", () => {
  const near = { version: 1, done: 3, total: 3, copies: [true, false], kept: 0 };
  const kept = { ...near, groups: [[3, 4]], copies: [false], kept: 1 };

  test("keeping all of a group is taken back by undo, and by nothing else after an edit", async () => {
    const asked: unknown[] = [];
    const both = { ...near, groups: [[1, 2], [3, 4]] }; // prettier-ignore
    const { api, sent } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)), {
      nearDuplicates: () => Promise.resolve(both),
      keep: (keep, ids) => {
        asked.push([keep, ids]);
        return Promise.resolve(keep ? kept : both);
      },
    });
    const review = await started(api);
    await review.showNearDuplicates();
    await review.keepAll();
    expect(review.store.get().nearDuplicates?.groups).toEqual([[3, 4]]);
    expect(review.store.get().toasts.at(-1)).toMatchObject({ message: "Kept all 2.", undo: true });
    await review.undo();
    expect(review.store.get().group).toBe(0);
    expect(sent).toEqual([]);
    await review.keepAll();
    await review.apply({ remove: ["lips"] });
    await review.undo();
    expect(sent).toHaveLength(2);
    await review.offerKeptAgain();
    expect(asked).toEqual([
      [true, [1, 2]],
      [false, [1, 2]],
      [true, [1, 2]],
      [false, undefined],
    ]);
  });

  test("the group on the screen stays there when others come before it", async () => {
    let groups = [[3, 4]];
    const { api } = fakeApi(() => Promise.reject(new Error("no edit")), {
      nearDuplicates: () => Promise.resolve({ ...near, groups }),
    });
    const review = await started(api);
    await review.showNearDuplicates();
    groups = [
      [1, 2],
      [3, 4, 5],
    ];
    await review.showNearDuplicates();
    expect(review.store.get().group).toBe(1);
    await review.showNearDuplicates(2);
    expect(review.store.get().group).toBe(0);
  });

  test("a read-only page keeps nothing", async () => {
    const { api } = fakeApi(() => Promise.reject(new Error("no edit")), {
      session: () => Promise.resolve({ ...SESSION, read_only: true }),
      keep: () => Promise.reject(new Error("not asked")),
    });
    const review = await started(api);
    await review.showNearDuplicates();
    await review.keepAll();
    expect(review.store.get().toasts.at(-1)?.message).toContain("read-only");
  });
});

describe("progress", () => {
  test("is shown while an edit takes longer than a moment, and then no more", async () => {
    let finish: (result: EditResult) => void = () => undefined;
    let done = 0;
    const { api } = fakeApi(() => new Promise((resolve) => (finish = resolve)), {
      progress: () => Promise.resolve({ label: "writing", done: (done += 1000), total: 4118 }),
    });
    const review = await started(api);
    const edit = review.apply({ remove: ["lips"] });
    await vi.advanceTimersByTimeAsync(100);
    expect(review.store.get().progress).toBeNull();
    await vi.advanceTimersByTimeAsync(200);
    expect(review.store.get().progress?.done).toBe(1000);
    await vi.advanceTimersByTimeAsync(200);
    expect(review.store.get().progress?.done).toBe(2000);
    finish(edited(2));
    await edit;
    await vi.advanceTimersByTimeAsync(1000);
    expect(review.store.get().progress).toBeNull();
    expect(done).toBe(2000);
  });

  test("a server that cannot say it does no harm", async () => {
    let finish: (result: EditResult) => void = () => undefined;
    const { api } = fakeApi(() => new Promise((resolve) => (finish = resolve)), {
      progress: () => Promise.reject(new ApiError(0, "no answer")),
    });
    const review = await started(api);
    const edit = review.apply({ remove: ["lips"] });
    await vi.advanceTimersByTimeAsync(1000);
    finish(edited(2));
    expect(await edit).toBe(true);
  });

  test("says what is done to how many captions", () => {
    expect(progressText({ label: "writing", done: 1204, total: 4118 })).toBe(
      "Writing 1,204 of 4,118 captions",
    );
    expect(progressText({ label: "", done: 0, total: 0 })).toBe("Writing…");
  });
});

describe("filter", () => {
  test("an invalid filter keeps the images and shows the position of the error", async () => {
    const { api } = fakeApi(() => Promise.reject(new Error("no edit")), {
      images: (where) =>
        where === ""
          ? Promise.resolve(images())
          : Promise.reject(new ApiError(400, "a bracket is open", "close it", 3)),
    });
    const review = await started(api);
    await review.setFilter("(a");
    expect(review.store.get().filterProblem).toEqual({
      error: "a bracket is open",
      hint: "close it",
      position: 3,
    });
    expect(review.store.get().listing?.total).toBe(3);
    await review.setFilter("");
    expect(review.store.get().filterProblem).toBeNull();
  });

  test("the cursor stays within the remaining images", async () => {
    let total = 3;
    const { api } = fakeApi(({ version }) => Promise.resolve(edited(version + 1)), {
      images: () => Promise.resolve(images(total)),
    });
    const review = await started(api);
    review.moveTo(2);
    total = 1;
    await review.apply({ remove: ["lips"] });
    expect(review.store.get().cursor).toBe(0);
  });
});

describe("outliers", () => {
  test("stay listed while the images of one after the other are viewed", async () => {
    const scopes: Scope[] = [];
    const shown: string[] = [];
    const { api } = fakeApi(() => Promise.reject(new Error("no edit")), {
      outliers: (scope) => {
        scopes.push(scope);
        return Promise.resolve({
          version: 1,
          images: 3,
          tag: ["a", "b"],
          count: [2, 2],
          missing: [1, 1],
          where: ['NOT tag:"a"', 'NOT tag:"b"'],
        });
      },
      images: (where) => {
        shown.push(where);
        return Promise.resolve(images());
      },
    });
    const review = await started(api);
    await review.setFilter("tag:x OR tag:y");
    await review.openOutliers();
    await review.showMissing('NOT tag:"a"');
    await review.showMissing('NOT tag:"b"');
    expect(shown.slice(-2)).toEqual([
      '(tag:x OR tag:y) AND NOT tag:"a"',
      '(tag:x OR tag:y) AND NOT tag:"b"',
    ]);
    expect(scopes).toEqual([{ in: "where", where: "tag:x OR tag:y" }]);
    await review.setFilter("");
    expect(scopes.at(-1)).toEqual({ in: "all" });
  });
});

describe("polling", () => {
  test("changes by another program are shown and acknowledged", async () => {
    const { api } = fakeApi(() => Promise.reject(new Error("no edit")), {
      changes: () =>
        Promise.resolve({
          version: 5,
          ids: [2],
          external: [2],
          added: [],
          removed: [],
          reset: false,
        }),
    });
    const review = await started(api);
    await review.checkForChanges();
    expect(review.store.get().version).toBe(5);
    expect(review.store.get().externalChanges).toEqual(["1 caption changed: 2.png"]);
  });

  test("the page is offline while the server does not respond", async () => {
    let gone = true;
    const { api } = fakeApi(() => Promise.reject(new Error("no edit")), {
      changes: (since) =>
        gone
          ? Promise.reject(new ApiError(0, "no answer"))
          : Promise.resolve({
              version: since,
              ids: [],
              external: [],
              added: [],
              removed: [],
              reset: false,
            }),
    });
    const review = await started(api);
    await review.checkForChanges();
    expect(review.store.get().online).toBe(false);
    gone = false;
    await review.checkForChanges();
    expect(review.store.get().online).toBe(true);
  });

  test("an expired cookie leads to the message to open the new URL", async () => {
    const { api } = fakeApi(() => Promise.reject(new Error("no edit")), {
      session: () => Promise.reject(new ApiError(401, "no cookie")),
    });
    const review = await started(api);
    expect(review.store.get().fatal?.hint).toContain("dsk review");
  });
});

describe("after an edit", () => {
  test("the trigger is the one that the server knows then", async () => {
    const respond = () => Promise.resolve(edited(2, { trigger: ["anna", "the hat"] }));
    const review = await started(fakeApi(respond).api);
    await review.apply({ trigger: ["anna", "the hat"] });
    expect(review.store.get().session?.trigger).toEqual(["anna", "the hat"]);
  });

  test("a search that finds no tag any more is cleared", async () => {
    const { api } = fakeApi(() => Promise.resolve(edited(2)));
    const review = await started(api);
    review.store.set({ tagQuery: "lips" });
    await review.apply({ remove: ["nose"] });
    expect(review.store.get().tagQuery).toBe("lips");
    const tags = await api.tags({ in: "all" });
    api.tags = () => Promise.resolve({ ...tags, tag: ["smile"] });
    await review.apply({ remove: ["lips"] });
    expect(review.store.get().tagQuery).toBe("");
  });
});
