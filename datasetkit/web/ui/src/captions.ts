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
