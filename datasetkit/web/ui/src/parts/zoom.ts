/** The zoom that several images share: one scale, and one point of the image in the middle. */

export interface Zoom {
  /** Device pixels for each pixel of the image; null: the whole image fits. */
  readonly scale: number | null;
  /** The point in the middle of the pane, as shares of the image's width and height. */
  readonly x: number;
  readonly y: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export const FIT: Zoom = { scale: null, x: 0.5, y: 0.5 };
export const STEPS: readonly (number | null)[] = [null, 1, 2];
const LEAST = 1 / 16;
const MOST = 32;

/** CSS pixels for each pixel of the image, where the whole image fits the pane. */
export function fitScale(image: Size, pane: Size): number {
  if (image.width <= 0 || image.height <= 0) return 1;
  return Math.min(pane.width / image.width, pane.height / image.height);
}

/** CSS pixels for each pixel of the image. ratio: device pixels for a CSS pixel. */
export function cssScale(zoom: Zoom, image: Size, pane: Size, ratio: number): number {
  return zoom.scale === null ? fitScale(image, pane) : zoom.scale / ratio;
}

/** Where the image lies in the pane, in CSS pixels. */
export function placed(
  zoom: Zoom,
  image: Size,
  pane: Size,
  ratio: number,
): { readonly left: number; readonly top: number; readonly scale: number } {
  const scale = cssScale(zoom, image, pane, ratio);
  // Whole device pixels: images of one size then lie on the same pixels.
  const whole = (value: number): number => Math.round(value * ratio) / ratio;
  return {
    left: whole(pane.width / 2 - zoom.x * image.width * scale),
    top: whole(pane.height / 2 - zoom.y * image.height * scale),
    scale,
  };
}

/** Zoom by a factor; the point of the image under the pointer stays there. */
export function zoomedAt(
  zoom: Zoom,
  factor: number,
  pointer: { readonly x: number; readonly y: number },
  image: Size,
  pane: Size,
  ratio: number,
): Zoom {
  const before = cssScale(zoom, image, pane, ratio);
  const scale = Math.min(MOST, Math.max(LEAST, before * ratio * factor));
  const after = scale / ratio;
  const at = (middle: number, offset: number, length: number): number =>
    middle + (offset / before - offset / after) / length;
  return limited({
    scale,
    x: at(zoom.x, pointer.x - pane.width / 2, image.width),
    y: at(zoom.y, pointer.y - pane.height / 2, image.height),
  });
}

/** Move the image by CSS pixels. */
export function panned(
  zoom: Zoom,
  dx: number,
  dy: number,
  image: Size,
  pane: Size,
  ratio: number,
): Zoom {
  const scale = cssScale(zoom, image, pane, ratio);
  return limited({
    ...zoom,
    x: zoom.x - dx / scale / image.width,
    y: zoom.y - dy / scale / image.height,
  });
}

/** The next of: whole image, 100 %, 200 %. */
export function nextStep(zoom: Zoom): Zoom {
  const at = STEPS.indexOf(zoom.scale);
  const scale = STEPS[(at + 1) % STEPS.length] ?? null;
  return scale === null ? FIT : { ...zoom, scale };
}

function limited(zoom: Zoom): Zoom {
  const share = (value: number): number => Math.min(1, Math.max(0, value));
  return { ...zoom, x: share(zoom.x), y: share(zoom.y) };
}
