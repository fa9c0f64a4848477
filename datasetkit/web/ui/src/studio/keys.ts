/** The keys of the shell. A tab may use others, and handles its own first. */

import type { KeyPress } from "../keys";

export type ShellAction =
  | "previous"
  | "next"
  | "primary"
  | "palette"
  | "jobs"
  | "history"
  | "search"
  | "details"
  | "undo"
  | "redo"
  | "theme"
  | "help";

const BY_KEY: Readonly<Record<string, ShellAction>> = {
  "[": "previous",
  "]": "next",
  q: "jobs",
  h: "history",
  "/": "search",
  i: "details",
  u: "undo",
  U: "redo",
  m: "theme",
  "?": "help",
};

interface KeyAction {
  readonly name: ShellAction;
  /** It also works while text is typed. */
  readonly inText: boolean;
}

export function actionFor(press: KeyPress): KeyAction | null {
  if (press.altKey) return null;
  if (press.ctrlKey || press.metaKey) {
    const key = press.key.toLowerCase();
    if (key === "enter") return { name: "primary", inText: true };
    if (key === "k") return { name: "palette", inText: true };
    if (key === "z") return { name: press.shiftKey ? "redo" : "undo", inText: false };
    return key === "y" ? { name: "redo", inText: false } : null;
  }
  const name = BY_KEY[press.key];
  return name ? { name, inText: false } : null;
}
