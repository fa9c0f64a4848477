import { describe, expect, test } from "vitest";
import { bindingFor, BINDINGS, isTextField } from "../src/keys";

const plain = { ctrlKey: false, metaKey: false, altKey: false, shiftKey: false };

test("no key has two meanings", () => {
  expect(new Set(BINDINGS.map((binding) => binding.key)).size).toBe(BINDINGS.length);
});

describe("bindingFor", () => {
  test("every listed key has its binding", () => {
    for (const binding of BINDINGS)
      expect(bindingFor({ ...plain, key: binding.key })).toBe(binding);
  });

  test("letters with Ctrl are left to the browser, except for undo and redo", () => {
    expect(bindingFor({ ...plain, ctrlKey: true, key: "a" })).toBeUndefined();
    expect(bindingFor({ ...plain, ctrlKey: true, key: "z" })?.action).toBe("undo");
    expect(bindingFor({ ...plain, metaKey: true, shiftKey: true, key: "Z" })?.action).toBe("redo");
    expect(bindingFor({ ...plain, ctrlKey: true, key: "y" })?.action).toBe("redo");
  });

  test("keys with Alt are left to the browser", () => {
    expect(bindingFor({ ...plain, altKey: true, key: "d" })).toBeUndefined();
  });
});

test("letters are text in text fields, and shortcuts on sliders and check boxes", () => {
  expect(isTextField("INPUT", "search", false)).toBe(true);
  expect(isTextField("TEXTAREA", "", false)).toBe(true);
  expect(isTextField("DIV", "", true)).toBe(true);
  expect(isTextField("INPUT", "range", false)).toBe(false);
  expect(isTextField("INPUT", "checkbox", false)).toBe(false);
  expect(isTextField("BUTTON", "submit", false)).toBe(false);
});
