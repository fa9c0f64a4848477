import { afterEach, describe, expect, test, vi } from "vitest";
import {
  clampWidth,
  MAX_WIDTH,
  MIN_WIDTH,
  storedWidth,
  storeWidth,
  widthAfter,
} from "../src/sidebar";

afterEach(() => vi.unstubAllGlobals());

describe("the width of the list", () => {
  test("keys move the border within its limits", () => {
    expect(widthAfter("ArrowRight", 288)).toBe(304);
    expect(widthAfter("ArrowLeft", MIN_WIDTH)).toBe(MIN_WIDTH);
    expect(widthAfter("ArrowRight", MAX_WIDTH)).toBe(MAX_WIDTH);
    expect(widthAfter("Home", 300)).toBe(MIN_WIDTH);
    expect(widthAfter("End", 300)).toBe(MAX_WIDTH);
    expect(widthAfter("x", 300)).toBeNull();
  });

  test("is remembered, and nothing else that is stored there counts", () => {
    const stored = new Map<string, string>();
    vi.stubGlobal("localStorage", {
      getItem: (key: string) => stored.get(key) ?? null,
      setItem: (key: string, value: string) => stored.set(key, value),
    });
    expect(storedWidth()).toBeNull();
    storeWidth(clampWidth(401.4));
    expect(storedWidth()).toBe(401);
    for (const [text, width] of [
      ["9999", MAX_WIDTH],
      ["-1", MIN_WIDTH],
      ["x", null],
    ] as const) {
      stored.set([...stored.keys()][0] ?? "", text);
      expect(storedWidth()).toBe(width);
    }
  });

  test("a browser without storage forgets it", () => {
    vi.stubGlobal("localStorage", undefined);
    storeWidth(300);
    expect(storedWidth()).toBeNull();
  });
});
