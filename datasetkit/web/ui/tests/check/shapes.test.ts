import { describe, expect, it } from "vitest";
import { type CheckCard, inOrder } from "../../src/tabs/check/shapes";

const card = (check: string, severity: CheckCard["severity"], findings: number): CheckCard => ({
  check,
  severity,
  findings,
  group: "images",
  title: check,
  why: "",
  files: findings,
  fixable: 0,
  step: "",
  images: [],
});

describe("the cards of a check", () => {
  it("come with the worst first, then by their number of findings", () => {
    const cards = [
      card("a", "note", 90),
      card("b", "warning", 2),
      card("c", "error", 1),
      card("d", "warning", 7),
    ];
    expect(inOrder(cards).map((item) => item.check)).toEqual(["c", "d", "b", "a"]);
    expect(cards[0]?.check).toBe("a");
  });
});
