/** The keyboard shortcuts: one table for the page and its dialog, the same in all views. */

export type Action =
  | "add-tag"
  | "add-everywhere"
  | "edit-caption"
  | "replace-tag"
  | "trigger"
  | "exclude"
  | "compare"
  | "scope"
  | "filter"
  | "search-tags"
  | "tags"
  | "images"
  | "caption"
  | "near-duplicates"
  | "outliers"
  | "suggestions"
  | "scores"
  | "meaning"
  | "undo"
  | "redo"
  | "larger"
  | "smaller"
  | "theme"
  | "shortcuts";

export interface Binding {
  /** As `KeyboardEvent.key` spells it: a capital letter is a letter with Shift. */
  readonly key: string;
  readonly action: Action;
  readonly label: string;
  /** Writes nothing: also works when the page is read-only. */
  readonly safe?: boolean;
  /** Needs an image under the cursor. */
  readonly ofImage?: boolean;
}

// prettier-ignore
export const BINDINGS: readonly Binding[] = [
  { key: "a", action: "add-tag", label: "add a tag to this image", ofImage: true },
  { key: "A", action: "add-everywhere", label: "add a tag to all images in scope" },
  { key: "e", action: "edit-caption", label: "edit the caption as text", ofImage: true },
  { key: "r", action: "replace-tag", label: "replace or merge the selected tag in scope" },
  { key: "t", action: "trigger", label: "put the trigger first in scope" },
  { key: "x", action: "exclude", label: "exclude this or the selected images", ofImage: true },
  { key: "c", action: "scores", label: "change the score threshold in scope" },
  { key: "w", action: "meaning", label: "write what the selected tag means" },
  { key: "d", action: "compare", label: "compare with the tagger's caption", safe: true, ofImage: true },
  { key: "s", action: "scope", label: "next scope: all, filtered, selected", safe: true },
  { key: "/", action: "filter", label: "filter the images", safe: true },
  { key: "f", action: "search-tags", label: "search the tag list", safe: true },
  { key: "l", action: "tags", label: "go to the tag list", safe: true },
  { key: "p", action: "images", label: "go to the images", safe: true },
  { key: "i", action: "caption", label: "go to the tags of this image", safe: true, ofImage: true },
  { key: "g", action: "near-duplicates", label: "show near-duplicates", safe: true },
  { key: "o", action: "outliers", label: "outliers: tags that most images have", safe: true },
  { key: "v", action: "suggestions", label: "suggestions: tags to remove or add", safe: true },
  { key: "u", action: "undo", label: "undo" },
  { key: "U", action: "redo", label: "redo" },
  { key: "+", action: "larger", label: "larger images", safe: true },
  { key: "-", action: "smaller", label: "smaller images", safe: true },
  { key: "m", action: "theme", label: "switch between light and dark", safe: true },
  { key: "?", action: "shortcuts", label: "show these shortcuts", safe: true },
];

const BY_KEY: ReadonlyMap<string, Binding> = new Map(
  BINDINGS.map((binding) => [binding.key, binding]),
);

export interface ListKeys {
  readonly where: string;
  readonly rows: readonly (readonly [keys: string, label: string])[];
}

/** Keys that the focused list or grid handles itself; here only for the dialog. */
export const LIST_KEYS: readonly ListKeys[] = [
  {
    where: "Images",
    rows: [
      ["← ↑ ↓ → Home End", "move; with Shift, select"],
      ["Space", "select or deselect"],
      ["Ctrl A", "select all images that match the filter"],
      ["Enter", "open the image, or go back"],
      ["Esc", "clear the selection, then the filter"],
    ],
  },
  {
    where: "Tags",
    rows: [
      ["↑ ↓", "move; with Shift, select several"],
      ["Space", "select or deselect"],
      ["Ctrl A", "select all tags that the search shows"],
      ["Enter", "show the images with the tags"],
      ["Shift Enter", "show the images without them"],
      ["Del", "remove the tags from all images in scope"],
      ["@face Enter", "in the search: select a group"],
    ],
  },
  {
    where: "Caption",
    rows: [
      ["↑ ↓", "move"],
      ["Del", "remove the tag from this image"],
      ["Tab", "while typing: accept the suggestion"],
      ["Enter", "while typing: save what you typed"],
    ],
  },
  {
    where: "Near-duplicates",
    rows: [
      ["1 to 9", "keep that image, exclude the others"],
      ["b", "keep both, or all: not offered again"],
      ["← →", "previous or next group"],
    ],
  },
];

export interface KeyPress {
  readonly key: string;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly altKey: boolean;
  readonly shiftKey: boolean;
}

/** The binding of a key outside of text fields. Ctrl Z and Ctrl Y also work for undo and redo. */
export function bindingFor(press: KeyPress): Binding | undefined {
  if (press.altKey) return undefined;
  if (press.ctrlKey || press.metaKey) {
    if (press.key.toLowerCase() === "z") return BY_KEY.get(press.shiftKey ? "U" : "u");
    return press.key.toLowerCase() === "y" ? BY_KEY.get("U") : undefined;
  }
  return BY_KEY.get(press.key === "=" ? "+" : press.key);
}

/** Whether an element takes typed letters as text; sliders and buttons do not. */
export function isTextField(tag: string, type: string, editable: boolean): boolean {
  if (editable || tag === "TEXTAREA" || tag === "SELECT") return true;
  const controls = ["button", "checkbox", "radio", "range", "submit", "reset"];
  return tag === "INPUT" && !controls.includes(type);
}
