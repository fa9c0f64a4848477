import { describe, expect, test } from "vitest";
import { lacking, tagTerm, toggleTerm } from "../src/filters";

test("a tag is taken literally", () => {
  expect(tagTerm("long hair")).toBe('tag:"long hair"');
  expect(tagTerm('say "hi" *?\\')).toBe('tag:"say \\"hi\\" \\*\\?\\\\"');
  expect(lacking("lips")).toBe('NOT tag:"lips"');
});

describe("toggleTerm", () => {
  const smile = tagTerm("smile");

  test("adds to what stands there, and takes it out again", () => {
    for (const filter of ["", "name:a*", `${tagTerm("lips")} AND score:<0.4`]) {
      expect(toggleTerm(toggleTerm(filter, smile), smile)).toBe(filter);
    }
  });

  test("an OR is put in brackets first", () => {
    expect(toggleTerm("tag:a OR tag:b", smile)).toBe('(tag:a OR tag:b) AND tag:"smile"');
    expect(toggleTerm("(tag:a) OR (tag:b)", smile)).toBe('((tag:a) OR (tag:b)) AND tag:"smile"');
  });

  test("the first of several terms can be taken out", () => {
    expect(toggleTerm(`${smile} AND name:a*`, smile)).toBe("name:a*");
  });
});
