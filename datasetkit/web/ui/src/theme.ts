/** Light or dark: the system's preference, until the person chooses. */

import type { Review } from "./review";

type Theme = "light" | "dark";

const KEY = "dsk-review-theme";
const DARK = "(prefers-color-scheme: dark)";

export function startTheme(review: Review): void {
  const update = () => show(review, storedTheme() ?? (matchMedia(DARK).matches ? "dark" : "light"));
  matchMedia(DARK).addEventListener("change", update);
  update();
}

export function toggleTheme(review: Review): void {
  const theme = review.store.get().theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Without local storage the choice lasts until the page is closed.
  }
  show(review, theme);
}

function storedTheme(): Theme | null {
  try {
    const theme = localStorage.getItem(KEY);
    return theme === "light" || theme === "dark" ? theme : null;
  } catch {
    return null;
  }
}

function show(review: Review, theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
  review.store.set({ theme });
}
