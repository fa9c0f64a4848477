import { beforeEach, describe, expect, it } from "vitest";
import { TAB_NAMES } from "../src/studio/facts";
import {
  endTour,
  hasNote,
  leadsTo,
  read,
  startTour,
  tabAfter,
  tourStore,
} from "../src/studio/tour";

describe("the tour", () => {
  beforeEach(() => tourStore.set({ on: false, read: [] }));

  it("has a note for each tab, once", () => {
    startTour();
    for (const tab of TAB_NAMES) {
      expect(hasNote(tourStore.get(), tab)).toBe(true);
      read(tab);
      expect(hasNote(tourStore.get(), tab)).toBe(false);
    }
    expect(tourStore.get().on).toBe(false);
  });

  it("shows nothing unless it was started, and ends at any time", () => {
    expect(hasNote(tourStore.get(), "images")).toBe(false);
    startTour();
    endTour();
    expect(hasNote(tourStore.get(), "check")).toBe(false);
    startTour();
    expect(hasNote(tourStore.get(), "images")).toBe(true);
  });

  it("goes through the tabs in their order", () => {
    expect(tabAfter("images")).toBe("check");
    expect(tabAfter("history")).toBeNull();
  });

  it("leads from Prepare to Prune to Start, until a note is read", () => {
    const next = (tab: "images" | "captions" | "train") => leadsTo(tourStore.get(), tab);
    expect(next("images")).toBeNull();
    startTour();
    expect([next("images"), next("captions"), next("train")]).toEqual(["captions", "train", null]);
    read("images");
    expect(next("images")).toBeNull();
    endTour();
    expect(next("captions")).toBeNull();
  });
});
