/** Captions as the page sees them: text to tags and back, and what differs between two of them. */

/** Read tags from text as the command line does: commas and lines part them, white space is one space. */
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

/** What two spellings of one tag have in common, near enough for finding; the server decides what is the same. */
export function folded(tag: string): string {
  return tag
    .normalize("NFC")
    .trim()
    .toLowerCase()
    .replaceAll("_", " ")
    .replace(/\\+([()])/g, "$1");
}

export type Change = "same" | "added" | "removed";

export interface Piece {
  readonly tag: string;
  readonly change: Change;
}

/** Compare two captions tag by tag (longest common subsequence), so that a tag that moved shows as out and in. */
export function diffTags(before: readonly string[], after: readonly string[]): Piece[] {
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
  const pieces: Piece[] = [];
  let i = 0;
  let j = 0;
  while (i < before.length || j < after.length) {
    const old = before[i];
    const now = after[j];
    if (old !== undefined && old === now) {
      pieces.push({ tag: old, change: "same" });
      i++;
      j++;
    } else if (
      now === undefined ||
      (old !== undefined && (common[(i + 1) * width + j] ?? 0) >= (common[i * width + j + 1] ?? 0))
    ) {
      pieces.push({ tag: old ?? "", change: "removed" });
      i++;
    } else {
      pieces.push({ tag: now, change: "added" });
      j++;
    }
  }
  return pieces;
}
