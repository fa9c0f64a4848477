import { describe, expect, test } from "vitest";
import type { TagColumns } from "../src/api";
import type { Listing } from "../src/listing";
import { NO_SELECTION } from "../src/selection";
import {
  groupFor,
  INITIAL_STATE,
  narrowestScope,
  nextScope,
  removal,
  scopeSize,
  sortedTags,
  targetTags,
} from "../src/state";

describe("scope", () => {
  test("cycles through the scopes that are not empty", () => {
    expect(nextScope("all", "", 0)).toBe("all");
    expect(nextScope("all", "tag:a", 0)).toBe("filtered");
    expect(nextScope("filtered", "tag:a", 2)).toBe("selected");
    expect(nextScope("selected", "tag:a", 2)).toBe("all");
    expect(nextScope("all", "", 2)).toBe("selected");
  });

  test("defaults to the narrowest that is not empty", () => {
    expect(narrowestScope("", 0)).toBe("all");
    expect(narrowestScope("tag:a", 0)).toBe("filtered");
    expect(narrowestScope("", 1)).toBe("selected");
  });
});

describe("what the tag list edits", () => {
  const nothing = { tag: null, tagSelection: NO_SELECTION, tagGroup: null };
  const several = { ids: new Set(["lips", "nose"]), anchor: 0 };

  test("the tag under the cursor, unless several are selected", () => {
    expect(removal(nothing)).toBeNull();
    expect(removal({ ...nothing, tag: "smile" })).toEqual({ remove: ["smile"] });
    expect(removal({ ...nothing, tag: "smile", tagSelection: several })).toEqual({
      remove: ["lips", "nose"],
    });
    expect(targetTags({ tag: "smile", tagSelection: several })).toEqual(["lips", "nose"]);
  });

  test("a group is removed as a group", () => {
    expect(removal({ tag: "lips", tagSelection: several, tagGroup: "@face" })).toEqual({
      exclude: ["@face"],
    });
  });

  test("the scope has as many images as its chip says", () => {
    const state = {
      ...INITIAL_STATE,
      images: 60,
      filter: "tag:a",
      listing: { total: 15 } as Listing,
      selection: { ids: new Set([1, 2]), anchor: 0 },
    };
    expect(scopeSize({ ...state, scope: "all" })).toBe(60);
    expect(scopeSize({ ...state, scope: "filtered" })).toBe(15);
    expect(scopeSize({ ...state, scope: "selected" })).toBe(2);
    expect(scopeSize({ ...state, scope: "filtered", filter: " " })).toBe(60);
  });
});

describe("sortedTags", () => {
  const tags: TagColumns = {
    version: 1,
    images: 3,
    tag: ["smile", "sylvie", "long hair", "lips"],
    count: [3, 2, 2, 1],
    total: [3, 9, 4, 8],
    score: [0.9, null, 0.4, 0.6],
    category: ["general", "trigger", "general", "general"],
    translation: ["Lächeln", "", "lange Haare", "Lippen"],
    spellings: [1, 1, 1, 1],
    groups: { name: ["@eyes", "@face"], images: [0, 3], rows: [[], [0, 3]] },
  };
  const names = (...args: [Parameters<typeof sortedTags>[1], string]) =>
    sortedTags(tags, ...args).map((at) => tags.tag[at]);

  test("triggers are pinned in every sort order", () => {
    expect(names("count", "")).toEqual(["sylvie", "smile", "long hair", "lips"]);
    expect(names("total", "")).toEqual(["sylvie", "lips", "long hair", "smile"]);
    expect(names("score", "")).toEqual(["sylvie", "long hair", "lips", "smile"]);
    expect(names("tag", "")).toEqual(["sylvie", "lips", "long hair", "smile"]);
  });

  test("a query matches inside tags and translations", () => {
    expect(names("count", "ng_h")).toEqual(["long hair"]);
    expect(names("count", "haare")).toEqual(["long hair"]);
    expect(names("count", "zebra")).toEqual([]);
    expect(names("count", "l")).toEqual(["sylvie", "smile", "long hair", "lips"]);
    expect(names("count", "lips")).toEqual(["lips"]);
  });

  test("a query such as @face shows the tags of the group", () => {
    expect(names("count", "@face")).toEqual(["smile", "lips"]);
    expect(names("count", "@fa")).toEqual(["smile", "lips"]);
    expect(names("count", "@nothing")).toEqual([]);
    expect(groupFor(tags.groups, "@f")).toBe(1);
    expect(groupFor(tags.groups, "face")).toBe(-1);
  });

  test("a tag that equals the query comes before those that contain it", () => {
    const three: TagColumns = {
      ...tags,
      tag: ["parted lips", "lips by sylvie", "lips", "x"],
      category: ["general", "trigger", "general", "general"],
    };
    expect(sortedTags(three, "count", "Lips").map((at) => three.tag[at])).toEqual([
      "lips",
      "lips by sylvie",
      "parted lips",
    ]);
  });
});
