/**
 * A selection of images (by id) or of tags (by name), and the anchor from which Shift extends it.
 */

export interface Selection<Id = number> {
  readonly ids: ReadonlySet<Id>;
  /** Where a range starts: an index into the current order, or -1. */
  readonly anchor: number;
}

export const NO_SELECTION: Selection<never> = { ids: new Set<never>(), anchor: -1 };

/** Select or deselect one item, and make it the anchor. */
export function toggle<Id>(
  selection: Selection<Id>,
  order: ArrayLike<Id>,
  index: number,
): Selection<Id> {
  const id = order[index];
  if (id === undefined) return selection;
  const ids = new Set(selection.ids);
  if (!ids.delete(id)) ids.add(id);
  return { ids, anchor: index };
}

/** Select from the anchor to an index; what the previous range selected beyond it is deselected. */
export function extend<Id>(
  selection: Selection<Id>,
  order: ArrayLike<Id>,
  from: number,
  to: number,
): Selection<Id> {
  const anchor = selection.anchor < 0 ? from : selection.anchor;
  const ids = new Set(selection.ids);
  for (const id of idsBetween(order, anchor, from)) ids.delete(id);
  for (const id of idsBetween(order, anchor, to)) ids.add(id);
  return { ids, anchor };
}

export function all<Id>(order: ArrayLike<Id>): Selection<Id> {
  return { ids: new Set(Array.from(order)), anchor: 0 };
}

function idsBetween<Id>(order: ArrayLike<Id>, a: number, b: number): Id[] {
  const [low, high] = a < b ? [a, b] : [b, a];
  if (low < 0) return [];
  return Array.from({ length: high - low + 1 }, (_, offset) => order[low + offset]).filter(
    (id) => id !== undefined,
  );
}
