/** Filter expressions that the page composes; only the server parses them. */

/** A term that matches exactly this tag: quoted, with the grammar's special characters escaped. */
export function hasTag(tag: string): string {
  return `tag:"${tag.replace(/[\\"*?]/g, "\\$&")}"`;
}

/** A term that matches images with any of these tags. */
export function hasAny(tags: readonly string[]): string {
  const terms = tags.map(hasTag);
  return terms.length === 1 ? (terms[0] ?? "") : `(${terms.join(" OR ")})`;
}

/** A term that matches images with none of these tags. */
export function hasNone(tags: readonly string[]): string {
  return `NOT ${hasAny(tags)}`;
}

/** Add a term to a filter, or remove it if it is there. */
export function toggleTerm(filter: string, term: string): string {
  const current = filter.trim();
  if (current === term) return "";
  const suffix = ` AND ${term}`;
  const prefix = `${term} AND `;
  if (current.endsWith(suffix)) return current.slice(0, -suffix.length);
  if (current.startsWith(prefix)) return current.slice(prefix.length);
  return and(current, term);
}

/** Join a filter and a term by AND. OR binds less tightly, so a filter with OR is parenthesized. */
export function and(filter: string, term: string): string {
  const current = filter.trim();
  if (current === "") return term;
  return hasOr(current) ? `(${current}) AND ${term}` : `${current} AND ${term}`;
}

/** Whether an OR stands outside of brackets and quotes. */
function hasOr(filter: string): boolean {
  let depth = 0;
  for (const [piece] of filter.matchAll(/"(?:\\.|[^"\\])*"|[()]|[^\s()"]+/g)) {
    if (piece === "(") depth += 1;
    else if (piece === ")") depth -= 1;
    else if (depth === 0 && piece.toLowerCase() === "or") return true;
  }
  return false;
}
