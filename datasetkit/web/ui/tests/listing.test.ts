import { expect, test } from "vitest";
import type { ImageColumns } from "../src/api";
import { Listing, WINDOW } from "../src/listing";

const TOTAL = 1_000_000;

function columns(offset: number, mark = ""): ImageColumns {
  const id = Array.from({ length: Math.min(WINDOW, TOTAL - offset) }, (_, at) => offset + at);
  const fill = <T>(value: T) => id.map(() => value);
  return {
    version: 1,
    total: TOTAL,
    offset,
    id,
    name: id.map((n) => `${mark}${n}`),
    w: fill(1),
    h: fill(1),
    v: fill("v"),
    concept: fill(0),
    tags: fill(3),
    edited: fill(0),
  };
}

function listing(previous: Listing | null = null, mark = "") {
  const requested: number[] = [];
  const api = {
    images: (_where: string, offset: number) => {
      requested.push(offset);
      return Promise.resolve(columns(offset, mark));
    },
  };
  return { requested, list: new Listing(api, "", columns(0, mark), () => undefined, previous) };
}

test("the last of a million images needs one request", async () => {
  const { requested, list } = listing();
  expect(list.at(TOTAL - 1)).toBeUndefined();
  list.need(TOTAL - 5, TOTAL + 40);
  list.need(TOTAL - 5, TOTAL + 40);
  await Promise.resolve();
  expect(requested).toEqual([TOTAL - WINDOW]);
  expect(list.at(TOTAL - 1)?.id).toBe(TOTAL - 1);
  expect(list.at(TOTAL)).toBeUndefined();
  expect(list.indexOf(TOTAL - 1)).toBe(TOTAL - 1);
});

test("until a window is loaded, the previous listing's images are shown", async () => {
  const old = listing(null, "old ");
  old.list.need(600, 600);
  await Promise.resolve();
  const { list } = listing(old.list, "new ");
  expect(list.at(3)?.name).toBe("new 3");
  expect(list.at(600)?.name).toBe("old 600");
  list.need(600, 600);
  await Promise.resolve();
  expect(list.at(600)?.name).toBe("new 600");
});

test("a failed request is repeated", async () => {
  let fails = true;
  const api = {
    images: (_: string, offset: number) =>
      fails ? Promise.reject(new Error("gone")) : Promise.resolve(columns(offset)),
  };
  const list = new Listing(api, "", columns(0), () => undefined);
  list.need(700, 700);
  await Promise.resolve();
  await Promise.resolve();
  fails = false;
  list.need(700, 700);
  await Promise.resolve();
  expect(list.at(700)?.id).toBe(700);
});
