/** Which of some dropped files are images and captions, by their content, and why others are not. */

/** So many bytes tell what a file is. */
export const HEAD = 32;
export const MAX_FILES = 20_000;
export const MAX_IMAGE_BYTES = 64 * 2 ** 20;
export const MAX_CAPTION_BYTES = 64 * 1024;

export type Kind = "image" | "text" | "archive" | "other";

export interface Candidate {
  readonly path: string;
  readonly size: number;
  readonly kind: Kind;
}

/** Why a file is left out; the page has a message for each. */
export type Reason = "system" | "kind" | "large" | "empty" | "many" | "alone";

export interface Sorted {
  /** All that is sent, in the order of the drop. */
  readonly wanted: readonly number[];
  readonly images: readonly number[];
  readonly captions: readonly number[];
  readonly leftOut: readonly { readonly index: number; readonly reason: Reason }[];
}

const TEXT = /\.(txt|caption|json)$/i;
const SYSTEM = /(^|\/)(\.[^/]*|thumbs\.db|desktop\.ini|__macosx)(\/|$)/i;

/** What a file is by its first bytes; a caption by its name, because any text may be one. */
export function kindOf(path: string, head: Uint8Array): Kind {
  if (isImage(head)) return "image";
  if (/\.zip$/i.test(path) && isZip(head)) return "archive";
  return TEXT.test(path) && !head.includes(0) ? "text" : "other";
}

/** The beginning of a zip archive. The server unpacks it. */
function isZip(head: Uint8Array): boolean {
  return String.fromCharCode(...head.subarray(0, 4)) === "PK\x03\x04";
}

function isImage(head: Uint8Array): boolean {
  const text = String.fromCharCode(...head.subarray(0, 16));
  const box = text.slice(4, 8) === "ftyp" ? text.slice(8, 12) : "";
  return (
    text.startsWith("\xff\xd8\xff") ||
    text.startsWith("\x89PNG\r\n\x1a\n") ||
    (text.startsWith("RIFF") && text.slice(8, 12) === "WEBP") ||
    ["avif", "avis", "heic", "heix", "mif1", "msf1"].includes(box) ||
    text.startsWith("GIF87a") ||
    text.startsWith("GIF89a") ||
    text.startsWith("BM") ||
    text.startsWith("II*\0") ||
    text.startsWith("MM\0*") ||
    text.startsWith("\xff\x0a") ||
    text.startsWith("\0\0\0\x0cJXL ")
  );
}

/**
 * Sort files before anything is sent. A caption belongs to an image of the same name beside it, or
 * in an archive that is sent with it.
 */
export function sorted(files: readonly Candidate[]): Sorted {
  const stem = (path: string): string => path.replace(/\.[^./]+$/, "").toLowerCase();
  const leftOut: { index: number; reason: Reason }[] = [];
  const accepted: number[] = [];
  files.forEach((file, index) => {
    const reason = refusal(file) ?? (accepted.length >= MAX_FILES ? "many" : null);
    if (reason) leftOut.push({ index, reason });
    else accepted.push(index);
  });
  const ofKind = (kind: Kind): number[] => accepted.filter((index) => files[index]?.kind === kind);
  const images = ofKind("image");
  const archives = ofKind("archive");
  const stems = new Set(images.map((index) => stem(files[index]!.path)));
  const captions: number[] = [];
  for (const index of ofKind("text")) {
    if (stems.has(stem(files[index]!.path)) || archives.length > 0) captions.push(index);
    else leftOut.push({ index, reason: "alone" });
  }
  leftOut.sort((a, b) => a.index - b.index);
  const wanted = [...images, ...captions, ...archives].sort((a, b) => a - b);
  return { wanted, images, captions, leftOut };
}

/** Paths without the folder that holds all of them, and that folder: "" where there is none. */
export function withoutTop(paths: readonly string[]): {
  readonly top: string;
  readonly paths: readonly string[];
} {
  const top = paths[0]?.split("/")[0] ?? "";
  const inside = paths.length > 0 && paths.every((path) => path.startsWith(`${top}/`));
  return inside
    ? { top, paths: paths.map((path) => path.slice(top.length + 1)) }
    : { top: "", paths };
}

function refusal(file: Candidate): Reason | null {
  if (SYSTEM.test(file.path)) return "system";
  if (file.kind === "other") return file.size === 0 ? "empty" : "kind";
  if (file.kind === "archive") return null;
  const most = file.kind === "image" ? MAX_IMAGE_BYTES : MAX_CAPTION_BYTES;
  return file.size > most ? "large" : null;
}
