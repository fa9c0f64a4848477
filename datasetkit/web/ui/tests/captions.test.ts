import { describe, expect, test } from "vitest";
import { diffTags, normalizeTag, formatTags, parseTags, withoutTag } from "../src/captions";

describe("parseTags", () => {
  test("commas and line breaks separate tags, and white space collapses", () => {
    expect(parseTags("\ufeff1girl,  long   hair,\r\nsmile,,\n")).toEqual([
      "1girl",
      "long hair",
      "smile",
    ]);
  });

  test("formatted tags are parsed as the same tags", () => {
    const tags = ["1girl", "^_^", "hatsune miku \\(vocaloid\\)"];
    expect(parseTags(formatTags(tags))).toEqual(tags);
  });
});

test("spellings of one tag are normalized to the same text", () => {
  expect(normalizeTag("Long_Hair")).toBe(normalizeTag("long hair"));
  expect(normalizeTag("miku \\(vocaloid\\)")).toBe("miku (vocaloid)");
});

describe("diffTags", () => {
  const words = (before: string, after: string) =>
    diffTags(parseTags(before), parseTags(after)).map(
      ({ tag, change }) => `${{ same: " ", added: "+", removed: "-" }[change]}${tag}`,
    );

  test("lists added and removed tags in the order of the caption", () => {
    expect(words("a, b, c", "a, c, d")).toEqual([" a", "-b", " c", "+d"]);
  });

  test("a moved tag is removed and added", () => {
    expect(
      words("a, b", "b, a")
        .filter((word) => word.endsWith("a"))
        .sort(),
    ).toEqual(["+a", "-a"]);
  });

  test("both captions can be rebuilt from the difference", () => {
    const before = parseTags("x, a, b, y, c, z");
    const after = parseTags("a, q, b, c, w, z, z");
    const entries = diffTags(before, after);
    expect(entries.filter((entry) => entry.change !== "added").map((entry) => entry.tag)).toEqual(
      before,
    );
    expect(entries.filter((entry) => entry.change !== "removed").map((entry) => entry.tag)).toEqual(
      after,
    );
  });
});

describe("a tag is removed from the text", () => {
  test.each([
    ["a, b, c", ["a", "b", "c"], "a", "b, c"],
    ["a, b, c", ["a", "b", "c"], "b", "a, c"],
    ["a, b, c", ["a", "b", "c"], "c", "a, b"],
    ["sylvie ||| solo, smile", ["sylvie", "solo", "smile"], "solo", "sylvie ||| smile"],
    ["sylvie, 1girl ||| solo", ["sylvie", "1girl", "solo"], "1girl", "sylvie ||| solo"],
    ["{a, b|a}, a, 1,000 c", ["{a, b|a}", "a", "1,000 c"], "a", "{a, b|a}, 1,000 c"],
    ["a, b\nc, d", ["a", "b", "c", "d"], "b", "a\nc, d"],
    ["a, b\nc, d", ["a", "b", "c", "d"], "c", "a, b\nd"],
  ])("%j without %j", (text, tags, tag, expected) => {
    expect(withoutTag(text, tags, tag)).toBe(expected);
  });
});
