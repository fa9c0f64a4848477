/** The studio that all components share, and what a tab tells the shell. */

import { createContext, useContext, useEffect, useRef } from "react";
import { useStore } from "../store";
import type { PrimaryAction, Studio, StudioState } from "./studio";

export const StudioContext = createContext<Studio | null>(null);

export function useStudio(): Studio {
  const studio = useContext(StudioContext);
  if (studio === null) throw new Error("this component needs a StudioContext");
  return studio;
}

/** A part of the state; see `useStore` for what `select` may return. */
export function useStudioState<Part>(select: (state: StudioState) => Part): Part {
  return useStore(useStudio().store, select);
}

/** Show a command in the bottom band while the tab is open. */
export function useCommand(command: string): void {
  const studio = useStudio();
  useEffect(() => {
    studio.store.set({ command });
    return () => studio.store.set({ command: "" });
  }, [studio, command]);
}

/** Make an action the one of Ctrl Enter while the component is there. */
export function usePrimary(action: PrimaryAction | null): void {
  const studio = useStudio();
  useEffect(() => {
    studio.store.set({ primary: action });
    return () => studio.store.set({ primary: null });
  }, [studio, action]);
}

/** Do something when files of a kind changed on disk, e.g. `config` or `outputs`. */
export function useFiles(kind: string, changed: () => void): void {
  const studio = useStudio();
  const latest = useRef(changed);
  latest.current = changed;
  useEffect(
    () =>
      studio.onFiles((kinds) => {
        if (kinds.includes(kind) || kinds.includes("all")) latest.current();
      }),
    [studio, kind],
  );
}
