import { describe, expect, it } from "vitest";
import { cssScale, FIT, nextStep, panned, placed, zoomedAt } from "../src/parts/zoom";

const image = { width: 512, height: 768 };
const pane = { width: 600, height: 600 };

/** The point of the image, in pixels of it, that is at a point of the pane. */
function pointAt(zoom: typeof FIT, x: number, y: number, ratio = 1): readonly [number, number] {
  const { left, top, scale } = placed(zoom, image, pane, ratio);
  return [(x - left) / scale, (y - top) / scale];
}

describe("zoom", () => {
  it("fits the whole image, in the middle", () => {
    const { left, top, scale } = placed(FIT, image, pane, 1);
    expect(scale).toBeCloseTo(600 / 768);
    expect([left, top]).toEqual([100, 0]);
  });

  it("keeps the point under the pointer", () => {
    const pointer = { x: 410, y: 130 };
    let zoom = FIT;
    for (const factor of [1.5, 2, 0.7, 1.2]) {
      const before = pointAt(zoom, pointer.x, pointer.y);
      zoom = zoomedAt(zoom, factor, pointer, image, pane, 1);
      const after = pointAt(zoom, pointer.x, pointer.y);
      expect(Math.abs(after[0] - before[0])).toBeLessThan(1);
      expect(Math.abs(after[1] - before[1])).toBeLessThan(1);
    }
  });

  it("shows pixels of the image as pixels of the screen at 100 %", () => {
    const actual = nextStep(FIT);
    expect(cssScale(actual, image, pane, 2)).toBe(0.5);
    expect(nextStep(nextStep(actual))).toEqual(FIT);
  });

  it("lies on whole pixels of the screen", () => {
    for (const ratio of [1, 1.5, 2]) {
      const zoom = { scale: 1, x: 0.3333, y: 0.7171 };
      const { left, top } = placed(zoom, image, pane, ratio);
      expect((left * ratio) % 1).toBeCloseTo(0);
      expect((top * ratio) % 1).toBeCloseTo(0);
    }
  });

  it("moves with the pointer, and not beyond the image", () => {
    const zoom = { scale: 2, x: 0.5, y: 0.5 };
    expect(panned(zoom, -102.4, 0, image, pane, 1).x).toBeCloseTo(0.6);
    expect(panned(zoom, 1e6, -1e6, image, pane, 1)).toEqual({ scale: 2, x: 0, y: 1 });
  });
});
