import { expect, test } from "vitest";
import { all, extend, NOTHING, toggle } from "../src/selection";

const ORDER = [10, 11, 12, 13, 14, 15];
const chosen = (selection: { chosen: ReadonlySet<number> }) => [...selection.chosen].sort();

test("an image is chosen and let go", () => {
  const one = toggle(NOTHING, ORDER, 2);
  expect(chosen(one)).toEqual([12]);
  expect(chosen(toggle(one, ORDER, 2))).toEqual([]);
});

test("a range grows and shrinks from where it began", () => {
  const begun = extend(NOTHING, ORDER, 1, 2);
  const grown = extend(begun, ORDER, 2, 4);
  expect(chosen(grown)).toEqual([11, 12, 13, 14]);
  expect(chosen(extend(grown, ORDER, 4, 2))).toEqual([11, 12]);
  expect(chosen(extend(grown, ORDER, 4, 0))).toEqual([10, 11]);
});

test("a range leaves alone what was chosen elsewhere", () => {
  const far = toggle(NOTHING, ORDER, 5);
  const near = toggle(far, ORDER, 0);
  expect(chosen(extend(near, ORDER, 0, 1))).toEqual([10, 11, 15]);
});

test("a place that is not there chooses nothing", () => {
  expect(toggle(NOTHING, ORDER, 9)).toBe(NOTHING);
  expect(chosen(all(ORDER))).toEqual(ORDER);
});
