import { describe, expect, test } from "vitest";
import { hasAny, hasNone, hasTag, toggleTerm } from "../src/filters";

test("special characters of a tag are escaped", () => {
  expect(hasTag("long hair")).toBe('tag:"long hair"');
  expect(hasTag('say "hi" *?\\')).toBe('tag:"say \\"hi\\" \\*\\?\\\\"');
  expect(hasNone(["lips"])).toBe('NOT tag:"lips"');
});

describe("toggleTerm", () => {
  const smile = hasTag("smile");

  test("adds a term, and removes it again", () => {
    for (const filter of ["", "name:a*", `${hasTag("lips")} AND score:<0.4`]) {
      expect(toggleTerm(toggleTerm(filter, smile), smile)).toBe(filter);
    }
  });

  test("a filter with OR is parenthesized", () => {
    expect(toggleTerm("tag:a OR tag:b", smile)).toBe('(tag:a OR tag:b) AND tag:"smile"');
    expect(toggleTerm("(tag:a) OR (tag:b)", smile)).toBe('((tag:a) OR (tag:b)) AND tag:"smile"');
  });

  test("the tags of a selection are one term", () => {
    expect(hasAny(["a"])).toBe('tag:"a"');
    expect(toggleTerm(smile, hasAny(["a", 'b"']))).toBe(`${smile} AND (tag:"a" OR tag:"b\\"")`);
    expect(toggleTerm("", hasNone(["a", "b"]))).toBe('NOT (tag:"a" OR tag:"b")');
    for (const term of [hasAny(["a", "b"]), hasNone(["a", "b"])]) {
      expect(toggleTerm(toggleTerm(smile, term), term)).toBe(smile);
      expect(toggleTerm(term, smile)).toBe(`${term} AND ${smile}`);
    }
  });

  test("OR inside of quotes is no operator", () => {
    expect(toggleTerm('tag:"now or never"', smile)).toBe('tag:"now or never" AND tag:"smile"');
  });

  test("the first of several terms can be removed", () => {
    expect(toggleTerm(`${smile} AND name:a*`, smile)).toBe("name:a*");
  });
});
