/** Light or dark: what the system prefers, until the person chooses. */

import type { Review } from "./review";

const KEY = "dsk-review-theme";
const DARK = "(prefers-color-scheme: dark)";

export function startTheme(review: Review): void {
  const set = () => show(review, kept() ?? (matchMedia(DARK).matches ? "dark" : "light"));
  matchMedia(DARK).addEventListener("change", set);
  set();
}

export function toggleTheme(review: Review): void {
  const theme = review.store.get().theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Storage may be switched off: the choice then lasts as long as the page.
  }
  show(review, theme);
}

function kept(): "light" | "dark" | null {
  try {
    const theme = localStorage.getItem(KEY);
    return theme === "light" || theme === "dark" ? theme : null;
  } catch {
    return null;
  }
}

function show(review: Review, theme: "light" | "dark"): void {
  document.documentElement.dataset["theme"] = theme;
  review.store.set({ theme });
}
