/** Which images are chosen: a set of image numbers, with an anchor from which Shift selects. */

export interface Selection {
  readonly chosen: ReadonlySet<number>;
  /** Where a range starts: a place in the order that is shown, or -1. */
  readonly anchor: number;
}

export const NOTHING: Selection = { chosen: new Set(), anchor: -1 };

/** Choose one image or let it go; ranges start here from now on. */
export function toggle(selection: Selection, order: ArrayLike<number>, place: number): Selection {
  const image = order[place];
  if (image === undefined) return selection;
  const chosen = new Set(selection.chosen);
  if (!chosen.delete(image)) chosen.add(image);
  return { chosen, anchor: place };
}

/** Choose what lies between the anchor and a place; what the last range chose beyond it is let go. */
export function extend(
  selection: Selection,
  order: ArrayLike<number>,
  from: number,
  to: number,
): Selection {
  const anchor = selection.anchor < 0 ? from : selection.anchor;
  const chosen = new Set(selection.chosen);
  for (const place of between(anchor, from)) letGo(chosen, order, place);
  for (const place of between(anchor, to)) choose(chosen, order, place);
  return { chosen, anchor };
}

export function all(order: ArrayLike<number>): Selection {
  return { chosen: new Set(Array.from(order)), anchor: 0 };
}

function between(a: number, b: number): number[] {
  const [low, high] = a < b ? [a, b] : [b, a];
  return low < 0 ? [] : Array.from({ length: high - low + 1 }, (_, at) => low + at);
}

function choose(chosen: Set<number>, order: ArrayLike<number>, place: number): void {
  const image = order[place];
  if (image !== undefined) chosen.add(image);
}

function letGo(chosen: Set<number>, order: ArrayLike<number>, place: number): void {
  const image = order[place];
  if (image !== undefined) chosen.delete(image);
}
