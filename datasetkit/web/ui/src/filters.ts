/** Filter expressions that the page writes itself; the server reads all of them. */

/** A term for exactly this tag: quoted, with the signs of the grammar made harmless. */
export function tagTerm(tag: string): string {
  return `tag:"${tag.replace(/[\\"*?]/g, "\\$&")}"`;
}

export function lacking(tag: string): string {
  return `NOT ${tagTerm(tag)}`;
}

/** Add a term to what stands in the box, or take it out when it is there already. */
export function toggleTerm(filter: string, term: string): string {
  const now = filter.trim();
  if (now === term) return "";
  const behind = ` AND ${term}`;
  if (now.endsWith(behind)) return now.slice(0, -behind.length);
  if (now.startsWith(`${term} AND `)) return now.slice(term.length + " AND ".length);
  return joined(now, term);
}

/** Both at once. OR binds more loosely than AND, so an expression that may hold one gets brackets. */
export function joined(filter: string, term: string): string {
  const now = filter.trim();
  if (now === "") return term;
  return /\bor\b/i.test(now) ? `(${now}) AND ${term}` : `${now} AND ${term}`;
}
