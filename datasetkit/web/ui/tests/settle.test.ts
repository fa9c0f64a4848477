import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { REST, Settle } from "../src/settle";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("rests when nothing has moved for a while, and says so once", () => {
  const settle = new Settle();
  const said: boolean[] = [];
  settle.subscribe(() => said.push(settle.atRest()));
  for (let event = 0; event < 10; event++) {
    settle.moved();
    vi.advanceTimersByTime(REST - 1);
  }
  expect(said).toEqual([false]);
  vi.advanceTimersByTime(1);
  expect(said).toEqual([false, true]);
});
