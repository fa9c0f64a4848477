/** Captions: from text to tags and back, and the difference between two captions. */

/** Parse tags as the command line does: commas and line breaks separate, white space collapses. */
export function parseTags(text: string): string[] {
  return text
    .replaceAll("\ufeff", "")
    .split(/[\r\n,]/)
    .map((piece) => piece.replace(/\s+/g, " ").trim())
    .filter((piece) => piece !== "");
}

export function formatTags(tags: readonly string[]): string {
  return tags.join(", ");
}

/**
 * Remove a tag from the text of a caption. What separates the others stays: `|||`, a line break.
 * `tags` are those of the caption, in order, as the server found them.
 */
export function withoutTag(caption: string, tags: readonly string[], tag: string): string {
  let text = "";
  let gap = "";
  let end = 0;
  for (const name of tags) {
    const start = caption.indexOf(name, end);
    if (start < 0) return formatTags(tags.filter((other) => other !== tag));
    const between = caption.slice(end, start);
    gap = isComma(gap) ? between || gap : gap;
    end = start + name.length;
    if (name === tag) continue;
    text += (text === "" && isComma(gap) ? "" : gap) + name;
    gap = "";
  }
  const rest = caption.slice(end);
  gap = isComma(gap) ? rest : gap + rest;
  return (text + (isComma(gap) ? "" : gap)).trim();
}

/** Whether a text between tags says no more than that they are two. */
function isComma(gap: string): boolean {
  return /^[\s,]*$/.test(gap) && !gap.includes("\n");
}

/** Normalize a tag for comparison, close to the server's rule, which decides. */
export function normalizeTag(tag: string): string {
  return tag
    .normalize("NFC")
    .trim()
    .toLowerCase()
    .replaceAll("_", " ")
    .replace(/\\+([()])/g, "$1");
}

export type Change = "same" | "added" | "removed";

export interface DiffEntry {
  readonly tag: string;
  readonly change: Change;
}

/** Compare two captions by their longest common subsequence: a moved tag is removed and added. */
export function diffTags(before: readonly string[], after: readonly string[]): DiffEntry[] {
  const width = after.length + 1;
  const common = new Uint16Array((before.length + 1) * width);
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      common[i * width + j] =
        before[i] === after[j]
          ? (common[(i + 1) * width + j + 1] ?? 0) + 1
          : Math.max(common[(i + 1) * width + j] ?? 0, common[i * width + j + 1] ?? 0);
    }
  }
  const entries: DiffEntry[] = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    const old = before[i];
    const now = after[j];
    if (old !== undefined && old === now) {
      entries.push({ tag: old, change: "same" });
      i++;
      j++;
    } else if (
      now === undefined ||
      (old !== undefined && (common[(i + 1) * width + j] ?? 0) >= (common[i * width + j + 1] ?? 0))
    ) {
      entries.push({ tag: old ?? "", change: "removed" });
      i++;
    } else {
      entries.push({ tag: now, change: "added" });
      j++;
    }
  }
  return entries;
}
