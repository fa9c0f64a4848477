import { describe, expect, it } from "vitest";
import { cutShare, imageBox, keptBox } from "../../src/tabs/plan/shapes";

describe("the cut drawn on an image", () => {
  it("lies on the image, not on the square around it", () => {
    expect(imageBox(1536, 2048)).toEqual({ left: 0.125, top: 0, width: 0.75, height: 1 });
    expect(imageBox(1600, 800)).toEqual({ left: 0, top: 0.25, width: 1, height: 0.5 });
    expect(imageBox(0, 0).width).toBe(0);
  });

  it("shows what remains", () => {
    const cut = { left: 0.1, top: 0.25, right: 0.1, bottom: 0.25 };
    expect(keptBox(cut)).toEqual({ left: 0.1, top: 0.25, width: 0.8, height: 0.5 });
    expect(cutShare(cut)).toBeCloseTo(0.6);
    expect(cutShare({ left: 0, top: 0, right: 0, bottom: 0 })).toBe(0);
  });
});
