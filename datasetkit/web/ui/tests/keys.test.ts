import { describe, expect, test } from "vitest";
import { actionOf, BINDINGS, takesText } from "../src/keys";

const plain = { ctrlKey: false, metaKey: false, altKey: false, shiftKey: false };

test("no key has two meanings", () => {
  expect(new Set(BINDINGS.map((binding) => binding.key)).size).toBe(BINDINGS.length);
});

describe("actionOf", () => {
  test("every key of the sheet does what the sheet says", () => {
    for (const binding of BINDINGS) expect(actionOf({ ...plain, key: binding.key })).toBe(binding);
  });

  test("letters with Ctrl belong to the browser, but for undo and redo", () => {
    expect(actionOf({ ...plain, ctrlKey: true, key: "a" })).toBeUndefined();
    expect(actionOf({ ...plain, ctrlKey: true, key: "z" })?.action).toBe("undo");
    expect(actionOf({ ...plain, metaKey: true, shiftKey: true, key: "Z" })?.action).toBe("redo");
    expect(actionOf({ ...plain, ctrlKey: true, key: "y" })?.action).toBe("redo");
  });

  test("Alt is the browser's", () => {
    expect(actionOf({ ...plain, altKey: true, key: "d" })).toBeUndefined();
  });
});

test("letters are text in fields, and keys on sliders and check boxes", () => {
  expect(takesText("INPUT", "search", false)).toBe(true);
  expect(takesText("TEXTAREA", "", false)).toBe(true);
  expect(takesText("DIV", "", true)).toBe(true);
  expect(takesText("INPUT", "range", false)).toBe(false);
  expect(takesText("INPUT", "checkbox", false)).toBe(false);
  expect(takesText("BUTTON", "submit", false)).toBe(false);
});
