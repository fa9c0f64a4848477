import { expect, test } from "vitest";
import type { Job } from "../src/studio/api";
import { chainsOf, isChainActive, movesTo, queueOf, removeParts } from "../src/studio/chains";

const job = (id: string, state: string, after: readonly string[] = [], place = 0): Job =>
  ({ id, state, after, place, verb: id, title: "" }) as unknown as Job;

const ids = (jobs: readonly Job[]) =>
  chainsOf(jobs).map(({ parts, now }) => [parts.map(({ id }) => id).join(" "), now.id]);

test("a layout, its regularisation and the training are one entry", () => {
  const jobs = [
    job("train", "queued", ["layout", "reg"], 2),
    job("reg", "queued", ["layout"], 1),
    job("tag", "running"),
    job("layout", "running"),
  ];
  expect(ids(jobs)).toEqual([
    ["layout reg train", "layout"],
    ["tag", "tag"],
  ]);
});

test("parts that were forgotten leave a chain, and do not break it", () => {
  const jobs = [job("train", "failed", ["layout", "reg"]), job("reg", "done", ["layout"])];
  expect(ids(jobs)).toEqual([["reg train", "train"]]);
  expect(chainsOf(jobs).map(isChainActive)).toEqual([false]);
  expect(ids([job("train", "queued", ["gone"])])).toEqual([["train", "train"]]);
});

test("a chain moves in the queue as one", () => {
  const order = ["a", "b1", "b2", "c1", "c2", "c3"];
  const jobs = order.map((id, at) =>
    job(
      id,
      "queued",
      order.filter((other, n) => n < at && other[0] === id[0]),
      at + 1,
    ),
  );
  const chains = chainsOf(jobs);
  const moved = (from: number, to: number) => {
    const now = [...order];
    for (const { id, place } of movesTo(chains[from]!, chains[to]!)) {
      now.splice(now.indexOf(id), 1);
      now.splice(place - 1, 0, id);
    }
    return now.join(" ");
  };
  expect(moved(2, 1)).toBe("a c1 c2 c3 b1 b2");
  expect(moved(1, 2)).toBe("a c1 c2 c3 b1 b2");
  expect(moved(0, 1)).toBe("b1 b2 a c1 c2 c3");
  expect(moved(1, 0)).toBe("b1 b2 a c1 c2 c3");
});

test("an entry is in the queue while none of its parts runs, where its first part waits", async () => {
  const waiting = [
    job("train", "queued", ["layout"], 3),
    job("layout", "queued", [], 2),
    job("other", "queued", [], 1),
  ];
  const names = (jobs: readonly Job[]) => queueOf(chainsOf(jobs)).map(({ last }) => last.id);
  expect(names(waiting)).toEqual(["other", "train"]);
  expect(names([waiting[0]!, job("layout", "running")])).toEqual([]);
  expect(names([job("train", "failed", ["layout"]), job("layout", "failed")])).toEqual([]);

  const removed: string[] = [];
  await removeParts(queueOf(chainsOf(waiting))[1]!, async (id) => removed.push(id));
  expect(removed).toEqual(["train", "layout"]);
});
