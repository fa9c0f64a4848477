/** Light or dark: the system's preference, until the person chooses. */

import { Store } from "./store";

type Theme = "light" | "dark";

const KEY = "dsk-review-theme";
const DARK = "(prefers-color-scheme: dark)";

export const themeStore = new Store<{ readonly theme: Theme }>({ theme: "light" });

export function startTheme(): void {
  const update = () => show(storedTheme() ?? (matchMedia(DARK).matches ? "dark" : "light"));
  matchMedia(DARK).addEventListener("change", update);
  update();
}

export function toggleTheme(): void {
  const theme = themeStore.get().theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Without local storage the choice lasts until the page is closed.
  }
  show(theme);
}

function storedTheme(): Theme | null {
  try {
    const theme = localStorage.getItem(KEY);
    return theme === "light" || theme === "dark" ? theme : null;
  } catch {
    return null;
  }
}

function show(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
  themeStore.set({ theme });
}
