/** The keys: one table that both the page and its sheet of keys read. A letter means the same in every view. */

export type Action =
  | "add-tag"
  | "add-everywhere"
  | "edit-caption"
  | "replace-tag"
  | "trigger"
  | "exclude"
  | "difference"
  | "scope"
  | "filter"
  | "find-tag"
  | "tags"
  | "images"
  | "caption"
  | "groups"
  | "outliers"
  | "scores"
  | "undo"
  | "redo"
  | "larger"
  | "smaller"
  | "theme"
  | "sheet";

export interface Binding {
  /** As `KeyboardEvent.key` spells it: a capital letter is one with Shift. */
  readonly key: string;
  readonly action: Action;
  readonly says: string;
  /** Reads only: it stays when the page may not write. */
  readonly reads?: boolean;
  /** Is about the image under the cursor. */
  readonly one?: boolean;
}

export const BINDINGS: readonly Binding[] = [
  { key: "a", action: "add-tag", says: "add a tag to this image", one: true },
  { key: "A", action: "add-everywhere", says: "add a tag to every image in scope" },
  { key: "e", action: "edit-caption", says: "edit the whole caption as text", one: true },
  { key: "r", action: "replace-tag", says: "replace or merge the tag in scope" },
  { key: "t", action: "trigger", says: "put the trigger first in scope" },
  { key: "x", action: "exclude", says: "exclude this image, or the selected ones", one: true },
  { key: "c", action: "scores", says: "cut again by score, in scope" },
  {
    key: "d",
    action: "difference",
    says: "show what differs from the tagger",
    reads: true,
    one: true,
  },
  { key: "s", action: "scope", says: "next scope: all, filtered, selected", reads: true },
  { key: "/", action: "filter", says: "filter the images", reads: true },
  { key: "f", action: "find-tag", says: "find a tag in the list", reads: true },
  { key: "l", action: "tags", says: "go to the list of tags", reads: true },
  { key: "p", action: "images", says: "go to the images", reads: true },
  { key: "i", action: "caption", says: "go to the tags of this image", reads: true, one: true },
  { key: "g", action: "groups", says: "near-duplicates", reads: true },
  { key: "o", action: "outliers", says: "outliers: what most have and these lack", reads: true },
  { key: "u", action: "undo", says: "undo" },
  { key: "U", action: "redo", says: "redo" },
  { key: "+", action: "larger", says: "larger images", reads: true },
  { key: "-", action: "smaller", says: "smaller images", reads: true },
  { key: "m", action: "theme", says: "light or dark", reads: true },
  { key: "?", action: "sheet", says: "this sheet", reads: true },
];

const BY_KEY: ReadonlyMap<string, Binding> = new Map(
  BINDINGS.map((binding) => [binding.key, binding]),
);

/** Keys that belong to the list or grid that has the focus; the sheet names them, the lists handle them. */
export const ELSEWHERE: readonly {
  readonly where: string;
  readonly rows: readonly (readonly [string, string])[];
}[] = [
  {
    where: "Images",
    rows: [
      ["← ↑ ↓ → Home End", "move; with Shift, select on the way"],
      ["Space", "select, or no longer"],
      ["Ctrl A", "select all that the filter shows"],
      ["Enter", "open the image, and back"],
      ["Esc", "clear the selection, then the filter"],
    ],
  },
  {
    where: "Tags",
    rows: [
      ["↑ ↓", "move"],
      ["Enter", "show the images that have the tag"],
      ["Shift Enter", "show those that lack it"],
      ["Del", "remove the tag from every image in scope"],
    ],
  },
  {
    where: "Caption",
    rows: [
      ["↑ ↓", "from tag to tag"],
      ["Del", "remove the tag from this image"],
      ["Tab", "while typing: take the suggestion"],
      ["Enter", "while typing: keep what was typed"],
    ],
  },
  {
    where: "Near-duplicates",
    rows: [
      ["1 to 9", "keep that one, exclude the others"],
      ["← →", "from group to group"],
    ],
  },
];

export interface Pressed {
  readonly key: string;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly altKey: boolean;
  readonly shiftKey: boolean;
}

/** What a key means outside of inputs; undo and redo also under the keys that everybody knows. */
export function actionOf(pressed: Pressed): Binding | undefined {
  if (pressed.altKey) return undefined;
  if (pressed.ctrlKey || pressed.metaKey) {
    if (pressed.key.toLowerCase() === "z") return BY_KEY.get(pressed.shiftKey ? "U" : "u");
    return pressed.key.toLowerCase() === "y" ? BY_KEY.get("U") : undefined;
  }
  return BY_KEY.get(pressed.key === "=" ? "+" : pressed.key);
}

/** Whether letters typed at this element are text; sliders and buttons take no letters. */
export function takesText(tag: string, type: string, editable: boolean): boolean {
  if (editable || tag === "TEXTAREA" || tag === "SELECT") return true;
  return (
    tag === "INPUT" && !["button", "checkbox", "radio", "range", "submit", "reset"].includes(type)
  );
}
