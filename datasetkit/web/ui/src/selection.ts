/** The selected images: a set of image ids, and the anchor from which Shift extends it. */

export interface Selection {
  readonly ids: ReadonlySet<number>;
  /** Where a range starts: an index into the current order, or -1. */
  readonly anchor: number;
}

export const NO_SELECTION: Selection = { ids: new Set(), anchor: -1 };

/** Select or deselect one image, and make it the anchor. */
export function toggle(selection: Selection, order: ArrayLike<number>, index: number): Selection {
  const id = order[index];
  if (id === undefined) return selection;
  const ids = new Set(selection.ids);
  if (!ids.delete(id)) ids.add(id);
  return { ids, anchor: index };
}

/** Select from the anchor to an index; what the previous range selected beyond it is deselected. */
export function extend(
  selection: Selection,
  order: ArrayLike<number>,
  from: number,
  to: number,
): Selection {
  const anchor = selection.anchor < 0 ? from : selection.anchor;
  const ids = new Set(selection.ids);
  for (const id of idsBetween(order, anchor, from)) ids.delete(id);
  for (const id of idsBetween(order, anchor, to)) ids.add(id);
  return { ids, anchor };
}

export function all(order: ArrayLike<number>): Selection {
  return { ids: new Set(Array.from(order)), anchor: 0 };
}

function idsBetween(order: ArrayLike<number>, a: number, b: number): number[] {
  const [low, high] = a < b ? [a, b] : [b, a];
  if (low < 0) return [];
  return Array.from({ length: high - low + 1 }, (_, offset) => order[low + offset]).filter(
    (id) => id !== undefined,
  );
}
