/** Judging without labels: the columns in another order, called A, B, C until they are opened. */

import type { Column } from "./layout";

/** A number from 0 to 1 for each call, the same for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A..Z, AA, AB. */
export function letter(n: number): string {
  const last = String.fromCharCode(65 + (n % 26));
  return n < 26 ? last : letter(Math.floor(n / 26) - 1) + last;
}

/**
 * The order of columns in a blind comparison. "without" stays first and keeps its label: it is what
 * the others are compared with.
 */
export function shuffled(columns: readonly Column[], seed: number): readonly number[] {
  const next = random(seed);
  const order = columns.map((_, n) => n);
  const first = order.filter((n) => columns[n]?.without);
  const others = order.filter((n) => !columns[n]?.without);
  for (let n = others.length - 1; n > 0; n--) {
    const other = Math.floor(next() * (n + 1));
    [others[n], others[other]] = [others[other]!, others[n]!];
  }
  return [...first, ...others];
}

/** The labels of columns in a blind comparison. */
export function blindLabels(columns: readonly Column[]): readonly string[] {
  let next = 0;
  return columns.map((column) => (column.without ? column.label : letter(next++)));
}

/** Whether each column has a mark: then opening the labels cannot change the judgement. */
export function isJudged(
  counts: readonly (readonly number[])[],
  columns: readonly Column[],
): boolean {
  return columns.every(
    (column, n) => column.without || (counts[n] ?? []).some((count) => count > 0),
  );
}
