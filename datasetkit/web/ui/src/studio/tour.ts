/** The tour: one note for each tab, shown once, and again from the help. */

import { Store } from "../store";
import { TAB_NAMES, type TabName } from "./facts";

export interface TourState {
  readonly on: boolean;
  /** Tabs whose note was read. */
  readonly read: readonly TabName[];
}

const KEY = "dsk-studio-tour";
export const tourStore = new Store<TourState>({ on: false, read: [] });

/** Begin with all notes. */
export function startTour(): void {
  tourStore.set({ on: true, read: [] });
}

export function endTour(): void {
  tourStore.set({ on: false });
  try {
    localStorage.setItem(KEY, "seen");
  } catch {
    // Without local storage the tour may be offered again.
  }
}

/** Whether the tour was seen to its end, or closed. */
export function wasSeen(): boolean {
  try {
    return localStorage.getItem(KEY) === "seen";
  } catch {
    return false;
  }
}

/** Whether a tab shows its note. */
export function hasNote(state: TourState, tab: TabName): boolean {
  return state.on && !state.read.includes(tab);
}

/** The tab after one, or null after the last. */
export function tabAfter(tab: TabName): TabName | null {
  return TAB_NAMES[TAB_NAMES.indexOf(tab) + 1] ?? null;
}

/** Mark the note of a tab as read. After the last one the tour is over. */
export function read(tab: TabName): void {
  const state = tourStore.get();
  tourStore.set({ read: [...state.read, tab] });
  if (tabAfter(tab) === null) endTour();
}

/** Where the main button of a tab leads to in the tour: the example has captions, and Start lays the
 * dataset out. The notes of the tabs between stay for who opens them. */
const LEADS: Readonly<Partial<Record<TabName, TabName>>> = {
  images: "captions",
  captions: "train",
};

/** The tab to go to once the main button of a tab was pressed; null outside of the tour. */
export function leadsTo(state: TourState, tab: TabName): TabName | null {
  return hasNote(state, tab) ? (LEADS[tab] ?? null) : null;
}
