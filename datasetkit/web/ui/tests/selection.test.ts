import { expect, test } from "vitest";
import { all, extend, NO_SELECTION, type Selection, toggle } from "../src/selection";

const ORDER = [10, 11, 12, 13, 14, 15];
const ids = (selection: Selection) => [...selection.ids].sort();

test("an image is selected and deselected", () => {
  const one = toggle(NO_SELECTION, ORDER, 2);
  expect(ids(one)).toEqual([12]);
  expect(ids(toggle(one, ORDER, 2))).toEqual([]);
});

test("a range grows and shrinks from its anchor", () => {
  const begun = extend(NO_SELECTION, ORDER, 1, 2);
  const grown = extend(begun, ORDER, 2, 4);
  expect(ids(grown)).toEqual([11, 12, 13, 14]);
  expect(ids(extend(grown, ORDER, 4, 2))).toEqual([11, 12]);
  expect(ids(extend(grown, ORDER, 4, 0))).toEqual([10, 11]);
});

test("a range does not change what is selected elsewhere", () => {
  const far = toggle(NO_SELECTION, ORDER, 5);
  const near = toggle(far, ORDER, 0);
  expect(ids(extend(near, ORDER, 0, 1))).toEqual([10, 11, 15]);
});

test("an index out of range selects nothing", () => {
  expect(toggle(NO_SELECTION, ORDER, 9)).toBe(NO_SELECTION);
  expect(ids(all(ORDER))).toEqual(ORDER);
});
