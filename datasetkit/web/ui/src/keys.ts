/**
 * The keyboard shortcuts: one table for the page and its dialog, the same in all views. What a key
 * does is the message `captions.key.` and its action.
 */

import type { Key } from "./i18n";

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
  /** Writes nothing: also works when the page is read-only. */
  readonly safe?: boolean;
  /** Needs an image under the cursor. */
  readonly ofImage?: boolean;
}

// prettier-ignore
export const BINDINGS: readonly Binding[] = [
  { key: "a", action: "add-tag", ofImage: true },
  { key: "A", action: "add-everywhere" },
  { key: "e", action: "edit-caption", ofImage: true },
  { key: "r", action: "replace-tag" },
  { key: "t", action: "trigger" },
  { key: "x", action: "exclude", ofImage: true },
  { key: "c", action: "scores" },
  { key: "w", action: "meaning" },
  { key: "d", action: "compare", safe: true, ofImage: true },
  { key: "s", action: "scope", safe: true },
  { key: "/", action: "filter", safe: true },
  { key: "f", action: "search-tags", safe: true },
  { key: "l", action: "tags", safe: true },
  { key: "p", action: "images", safe: true },
  { key: "i", action: "caption", safe: true, ofImage: true },
  { key: "g", action: "near-duplicates", safe: true },
  { key: "o", action: "outliers", safe: true },
  { key: "v", action: "suggestions", safe: true },
  { key: "u", action: "undo" },
  { key: "U", action: "redo" },
  { key: "+", action: "larger", safe: true },
  { key: "-", action: "smaller", safe: true },
  { key: "m", action: "theme", safe: true },
  { key: "?", action: "shortcuts", safe: true },
];

const BY_KEY: ReadonlyMap<string, Binding> = new Map(
  BINDINGS.map((binding) => [binding.key, binding]),
);

type InList<K> = K extends `captions.listKey.${infer Name}` ? Name : never;

export interface ListKeys {
  readonly title: "captions.images" | "captions.list.tags" | "captions.panel" | "captions.near";
  /** Keys, and the end of the message `captions.listKey.…` that says what they do. */
  readonly rows: readonly (readonly [keys: string, name: InList<Key>])[];
}

/** Keys that the focused list or grid handles itself; here only for the dialog. */
export const LIST_KEYS: readonly ListKeys[] = [
  {
    title: "captions.images",
    rows: [
      ["← ↑ ↓ → Home End", "images.move"],
      ["Space", "images.toggle"],
      ["Ctrl A", "images.all"],
      ["Enter", "images.open"],
      ["Esc", "images.clear"],
    ],
  },
  {
    title: "captions.list.tags",
    rows: [
      ["↑ ↓", "tags.move"],
      ["Space", "images.toggle"],
      ["Ctrl A", "tags.all"],
      ["Enter", "tags.show"],
      ["Shift Enter", "tags.without"],
      ["Del", "tags.remove"],
      ["@face Enter", "tags.group"],
    ],
  },
  {
    title: "captions.panel",
    rows: [
      ["↑ ↓", "caption.move"],
      ["Del", "caption.remove"],
      ["Tab", "caption.accept"],
      ["Enter", "caption.save"],
    ],
  },
  {
    title: "captions.near",
    rows: [
      ["1–9", "near.keep"],
      ["b", "near.all"],
      ["← →", "near.step"],
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
