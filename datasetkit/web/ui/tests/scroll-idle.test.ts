import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { IDLE_AFTER, ScrollIdle } from "../src/scroll-idle";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("is idle some time after the last scroll event, and notifies once", () => {
  const scrollIdle = new ScrollIdle();
  const notified: boolean[] = [];
  scrollIdle.subscribe(() => notified.push(scrollIdle.isIdle()));
  for (let event = 0; event < 10; event++) {
    scrollIdle.scrolled();
    vi.advanceTimersByTime(IDLE_AFTER - 1);
  }
  expect(notified).toEqual([false]);
  vi.advanceTimersByTime(1);
  expect(notified).toEqual([false, true]);
});
