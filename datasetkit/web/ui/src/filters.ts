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
  const joined = ` AND ${term}`;
  if (now.endsWith(joined)) return now.slice(0, -joined.length);
  if (now.startsWith(`${term} AND `)) return now.slice(term.length + " AND ".length);
  if (now === "") return term;
  return / OR /.test(now) && !now.startsWith("(") ? `(${now})${joined}` : `${now}${joined}`;
}
