/** Filter expressions that the page composes; only the server parses them. */

/** A term that matches exactly this tag: quoted, with the grammar's special characters escaped. */
export function hasTag(tag: string): string {
  return `tag:"${tag.replace(/[\\"*?]/g, "\\$&")}"`;
}

export function withoutTag(tag: string): string {
  return `NOT ${hasTag(tag)}`;
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
  return /\bor\b/i.test(current) ? `(${current}) AND ${term}` : `${current} AND ${term}`;
}
