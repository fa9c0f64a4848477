/** Routes in the fragment, `#/train`: back and reload work, and the server never sees them. */

import { Store } from "../store";
import { TAB_NAMES, type TabName } from "./facts";

export interface Route {
  readonly tab: TabName;
  /** What follows the tab, e.g. the run in `#/watch/kitsu-3`. */
  readonly rest: string;
}

export function parseRoute(hash: string): Route | null {
  const [, name = "", ...rest] = hash.replace(/^#/, "").split("/");
  const tab = TAB_NAMES.find((known) => known === name);
  return tab ? { tab, rest: decode(rest.join("/")) } : null;
}

export function formatRoute(tab: TabName, rest = ""): string {
  const path = rest.split("/").map(encodeURIComponent).join("/");
  return rest === "" ? `#/${tab}` : `#/${tab}/${path}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export const routeStore = new Store<Route>({ tab: "images", rest: "" });

/** Follow the fragment; the result stops it. */
export function startRoutes(first: TabName): () => void {
  const follow = () => {
    const route = parseRoute(location.hash);
    if (route) routeStore.set(route);
    else location.replace(formatRoute(first));
  };
  addEventListener("hashchange", follow);
  follow();
  return () => removeEventListener("hashchange", follow);
}

export function go(tab: TabName, rest = ""): void {
  location.hash = formatRoute(tab, rest);
}

/** The tab beside another, around the ends. */
export function neighbor(tab: TabName, by: -1 | 1): TabName {
  const at = TAB_NAMES.indexOf(tab) + by;
  return TAB_NAMES[(at + TAB_NAMES.length) % TAB_NAMES.length] ?? tab;
}
