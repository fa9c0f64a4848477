import { describe, expect, test } from "vitest";
import { diffTags, folded, formatTags, parseTags } from "../src/captions";

describe("parseTags", () => {
  test("commas and lines part tags, and white space is one space", () => {
    expect(parseTags("\ufeff1girl,  long   hair,\r\nsmile,,\n")).toEqual([
      "1girl",
      "long hair",
      "smile",
    ]);
  });

  test("what was written is read as the same tags", () => {
    const tags = ["1girl", "^_^", "hatsune miku \\(vocaloid\\)"];
    expect(parseTags(formatTags(tags))).toEqual(tags);
  });
});

test("spellings of one tag fold to the same", () => {
  expect(folded("Long_Hair")).toBe(folded("long hair"));
  expect(folded("miku \\(vocaloid\\)")).toBe("miku (vocaloid)");
});

describe("diffTags", () => {
  const words = (before: string, after: string) =>
    diffTags(parseTags(before), parseTags(after)).map(
      ({ tag, change }) => `${{ same: " ", added: "+", removed: "-" }[change]}${tag}`,
    );

  test("names what came and what went, in the order of the caption", () => {
    expect(words("a, b, c", "a, c, d")).toEqual([" a", "-b", " c", "+d"]);
  });

  test("a tag that moved went out and came in", () => {
    expect(
      words("a, b", "b, a")
        .filter((word) => word.endsWith("a"))
        .sort(),
    ).toEqual(["+a", "-a"]);
  });

  test("both captions can be read off the pieces", () => {
    const before = parseTags("x, a, b, y, c, z");
    const after = parseTags("a, q, b, c, w, z, z");
    const pieces = diffTags(before, after);
    expect(pieces.filter((piece) => piece.change !== "added").map((piece) => piece.tag)).toEqual(
      before,
    );
    expect(pieces.filter((piece) => piece.change !== "removed").map((piece) => piece.tag)).toEqual(
      after,
    );
  });
});
