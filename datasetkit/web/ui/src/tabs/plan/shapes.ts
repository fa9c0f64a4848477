/** What the server sends about the layout that a training would use. */

export interface PlannedConcept {
  /** Its place in dsk.toml; null where it is not there. */
  readonly id: number | null;
  readonly name: string;
  readonly kind: "train" | "reg";
  readonly images: number;
  readonly repeats: number;
  /** The repeats that give exactly the wanted steps. */
  readonly ideal: number | null;
  readonly samples: number;
  readonly steps: number;
}

export interface PlannedBucket {
  readonly w: number;
  readonly h: number;
  readonly images: number;
}

export interface PlannedMemory {
  readonly fits: boolean;
  readonly need: number;
  readonly have: number;
  readonly parts: readonly { readonly name: string; readonly bytes: number }[];
}

export interface LayoutPlan {
  readonly concepts: readonly PlannedConcept[];
  readonly buckets: readonly PlannedBucket[];
  readonly steps: number;
  readonly epochs: number;
  readonly batch: number;
  readonly accumulation: number;
  /** Share of all pixels that is cut off. */
  readonly cut: number;
  readonly enlarged: number;
  readonly balance: { readonly train: number; readonly reg: number } | null;
  readonly memory: PlannedMemory | null;
  /** It is laid out so. */
  readonly current: boolean;
  readonly advice: readonly string[];
  readonly command: string;
}

export interface PlannedImage {
  readonly id: number;
  readonly v: string;
  readonly name: string;
  readonly w: number;
  readonly h: number;
  readonly bucket_w: number;
  readonly bucket_h: number;
  /** What is cut off at each side, as shares of the image. */
  readonly left: number;
  readonly top: number;
  readonly right: number;
  readonly bottom: number;
  /** Pixels of the bucket for each of the image; above 1 it is enlarged. */
  readonly scale: number;
}

/** More than this enlargement is worth a look. */
export const MUCH_ENLARGED = 1.5;

export interface Box {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Where an image lies in a square that it fits into, as shares of the square. */
export function imageBox(width: number, height: number): Box {
  const longest = Math.max(width, height, 1);
  const [w, h] = [width / longest, height / longest];
  return { left: (1 - w) / 2, top: (1 - h) / 2, width: w, height: h };
}

/** What remains of an image, as shares of it. */
export function keptBox(cut: Pick<PlannedImage, "left" | "top" | "right" | "bottom">): Box {
  return {
    left: cut.left,
    top: cut.top,
    width: Math.max(0, 1 - cut.left - cut.right),
    height: Math.max(0, 1 - cut.top - cut.bottom),
  };
}

/** The share of an image that is cut off. */
export function cutShare(cut: Pick<PlannedImage, "left" | "top" | "right" | "bottom">): number {
  const kept = keptBox(cut);
  return 1 - kept.width * kept.height;
}
