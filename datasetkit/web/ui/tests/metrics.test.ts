import { expect, test } from "vitest";
import type { Metrics, StudioApi } from "../src/studio/api";
import {
  fromServer,
  heldOut,
  lookOf,
  MetricsStore,
  over,
  rateNames,
  type RunMetrics,
} from "../src/tabs/watch/metrics";

const column = (step: number[], mean: (number | null)[]) => ({ step, mean });

function storeOf(series: Metrics["series"]) {
  const asked: string[] = [];
  const api = {
    metrics: (id: string) => {
      asked.push(id);
      return Promise.resolve({ run: id, keys: [], last: 0, series });
    },
  } as unknown as StudioApi;
  return { asked, metrics: new MetricsStore(api) };
}

test("events add rows, and a reset voids the steps after it", async () => {
  const { metrics } = storeOf({ loss: column([1, 2, 3], [3, 2, 1]) });
  await metrics.load(["k"]);
  const event = (data: object) => metrics.onEvent({ type: "metrics", id: "", data: { ...data } });
  event({ run: "k", rows: { loss: column([3, 4], [9, 0.5]) } });
  const loss = () => metrics.store.get().runs.get("k")?.["loss"];
  expect(loss()?.x).toEqual([1, 2, 3, 4]);
  expect(loss()?.mean).toEqual([3, 2, 1, 0.5]);
  event({ run: "k", reset: 2, rows: { loss: column([3], [0.7]) } });
  expect(loss()?.mean).toEqual([3, 2, 0.7]);
  event({ run: "k", reset: 0 });
  expect(loss()?.x).toEqual([]);
  event({ run: "other", rows: { loss: column([1], [1]) } });
  expect(metrics.store.get().runs.has("other")).toBe(false);
});

test("a run is loaded once, and again when its rows were too many for an event", async () => {
  const { asked, metrics } = storeOf({});
  await metrics.load(["k", "l"]);
  await metrics.load(["k"]);
  expect(asked).toEqual(["k", "l"]);
  metrics.onEvent({ type: "metrics", id: "", data: { run: "k", buckets: true } });
  metrics.onEvent({ type: "hello", id: "", data: { resumed: true } });
  expect(asked).toEqual(["k", "l", "k"]);
});

test("rows that were missed between the load and the first event are loaded", async () => {
  const { asked, metrics } = storeOf({ loss: column([1, 2], [2, 1]) });
  await metrics.load(["k"]);
  const rows = { loss: column([5], [0.5]) };
  metrics.onEvent({ type: "metrics", id: "", data: { run: "k", from: 4, rows } });
  expect(asked).toEqual(["k", "k"]);
  await Promise.resolve();
  metrics.onEvent({ type: "metrics", id: "", data: { run: "k", from: 2, rows } });
  expect(asked).toEqual(["k", "k"]);
  expect(metrics.store.get().runs.get("k")?.["loss"]?.x).toEqual([1, 2, 5]);
});

test("over samples, and over time from the first step", () => {
  const run = fromServer({
    loss: column([1, 2, 3], [3, 2, 1]),
    samples: column([1, 2, 3], [2, 2, 1]),
    time: column([1, 2, 3], [1000, 1001, 1005]),
  });
  expect(over(run, "loss", "samples").x).toEqual([2, 4, 5]);
  expect(over(run, "loss", "time").x).toEqual([0, 1, 5]);
  expect(over(run, "loss", "step").x).toEqual([1, 2, 3]);
  expect(over(run, "nothing", "time").x).toEqual([]);
});

test("a clock that was set back does not turn the line back", () => {
  const run = fromServer({
    loss: column([1, 2, 3], [3, 2, 1]),
    time: column([1, 2, 3], [1000, 900, 1001]),
  });
  const { x } = over(run, "loss", "time");
  expect(x).toEqual([...x].sort((a, b) => a - b));
});

test("the held-out loss has its standard error as the bar", () => {
  const run = fromServer({
    "validation/change": column([0, 10], [null, -0.4]),
    "validation/error": column([10], [0.1]),
  });
  const held = heldOut(run);
  expect([held.mean, held.min, held.max]).toEqual([
    [null, -0.4],
    [null, -0.5],
    [null, -0.30000000000000004],
  ]);
});

test("a rate has the same look in whatever order the rates come and go", () => {
  const series = { x: [1], mean: [1], min: [1], max: [1] };
  const named = (...names: string[]) =>
    Object.fromEntries(names.map((name) => [name, series] as const));
  const looks = (run: RunMetrics) => rateNames(run).map((name) => [name, lookOf(name)]);
  const before = looks(named("loss", "lr/unet", "lr/text_encoder", "lr/text_encoder_2"));
  // The end of a run loads it anew: the server sorts the names.
  expect(looks(named("lr/text_encoder_2", "lr/text_encoder", "lr/unet"))).toEqual(before);
  expect(looks(named("lr/down_00", "lr/text_encoder_2", "lr/unet"))).toEqual(
    expect.arrayContaining(before.filter(([name]) => name !== "lr/text_encoder")),
  );
  expect(new Set(before.map(([, look]) => look)).size).toBe(3);
});
