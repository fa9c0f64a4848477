import { describe, expect, it } from "vitest";
import { type HistoryEntry, undoneWith } from "../../src/tabs/history/entries";

const entry = (id: number, change: Partial<HistoryEntry> = {}): HistoryEntry => ({
  id,
  verb: "tag",
  title: "",
  time: 0,
  undone: false,
  open: false,
  ...change,
});

describe("an undo back to an entry", () => {
  it("takes back that entry and all newer ones, each once", () => {
    const entries = [entry(9), entry(8, { undone: true }), entry(7), entry(6)];
    expect(undoneWith(entries, 7).map((item) => item.id)).toEqual([9, 7]);
    expect(undoneWith(entries, 9).map((item) => item.id)).toEqual([9]);
  });

  it("does not count an interrupted command", () => {
    expect(undoneWith([entry(3, { open: true }), entry(2)], 2).map((e) => e.id)).toEqual([2]);
  });
});
