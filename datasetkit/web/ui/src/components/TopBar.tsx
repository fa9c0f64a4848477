/** The top bar: filter, scope, undo and the buttons for views. */

import { useEffect, useRef, useState } from "react";
import { useStore } from "../store";
import { themeStore, toggleTheme } from "../theme";
import { useReview, useReviewState } from "./context";
import { Icon } from "./Icon";
import { ScopeChip } from "./ScopeChip";
import { TriggerChip } from "./TriggerChip";

const NO_TRIGGER: readonly string[] = [];
/** Milliseconds from the last letter to the request, so that fast typing sends one. */
const TYPING_DELAY = 40;
/** Milliseconds until an error is shown: an expression is often incomplete while it is typed. */
const ERROR_DELAY = 500;

export function TopBar({ embedded }: { readonly embedded: boolean }) {
  const review = useReview();
  const session = useReviewState((state) => state.session);
  const undo = useReviewState((state) => state.undo);
  const redo = useReviewState((state) => state.redo);
  const theme = useStore(themeStore, (state) => state.theme);
  const panelOpen = useReviewState((state) => state.panelOpen);
  const view = useReviewState((state) => state.view);
  return (
    <header className="top-bar">
      {embedded ? null : <h1 title={session?.name}>{session?.name ?? ""}</h1>}
      <TriggerChip words={session?.trigger ?? NO_TRIGGER} />
      <FilterBox />
      <ScopeChip />
      <div className="buttons">
        {embedded ? null : session?.read_only ? (
          <span className="badge">read-only</span>
        ) : (
          <>
            <button
              type="button"
              className="plain icon-only"
              disabled={undo === null}
              title={undo ? `Undo (u): ${undo}` : "Nothing to undo"}
              aria-label="Undo"
              onClick={() => void review.undo()}
            >
              <Icon name="undo" />
            </button>
            <button
              type="button"
              className="plain icon-only"
              disabled={redo === null}
              title={redo ? `Redo (U): ${redo}` : "Nothing to redo"}
              aria-label="Redo"
              onClick={() => void review.redo()}
            >
              <Icon name="redo" />
            </button>
          </>
        )}
        <button
          type="button"
          className="plain"
          title="Near-duplicates side by side (g)"
          aria-pressed={view === "near-duplicates"}
          onClick={() =>
            view === "near-duplicates"
              ? review.store.set({ view: "grid" })
              : void review.showNearDuplicates()
          }
        >
          <Icon name="nearDuplicates" />{" "}
          <span className="word">
            Near-duplicates <kbd>g</kbd>
          </span>
        </button>
        <button
          type="button"
          className="plain"
          title="Show or hide the caption of the image under the cursor"
          aria-pressed={panelOpen}
          onClick={() => review.store.set({ panelOpen: !panelOpen })}
        >
          <Icon name="panel" /> <span className="word">Caption</span>
        </button>
        {embedded ? null : (
          <button
            type="button"
            className="plain icon-only"
            title="Light or dark theme (m)"
            aria-label={theme === "dark" ? "Light theme" : "Dark theme"}
            onClick={toggleTheme}
          >
            <Icon name={theme === "dark" ? "light" : "dark"} />
          </button>
        )}
        <button
          type="button"
          title="Keyboard shortcuts (?)"
          onClick={() => review.store.set({ shortcutsOpen: true })}
        >
          <span className="word">Shortcuts</span> <kbd>?</kbd>
        </button>
      </div>
    </header>
  );
}

function FilterBox() {
  const review = useReview();
  const filter = useReviewState((state) => state.filter);
  const problem = useReviewState((state) => state.filterProblem);
  const [typed, setTyped] = useState(filter);
  const [showProblem, setShowProblem] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => setTyped(filter), [filter]);
  useEffect(() => {
    setShowProblem(false);
    if (problem === null) return;
    const delay = setTimeout(() => setShowProblem(true), ERROR_DELAY);
    return () => clearTimeout(delay);
  }, [problem]);

  const apply = (value: string) => {
    clearTimeout(timer.current);
    void review.setFilter(value);
  };
  return (
    <div className="filter" role="search">
      <input
        id="filter"
        type="search"
        aria-label="Filter"
        placeholder="Filter:  tag:smile AND NOT score:<0.4"
        autoComplete="off"
        spellCheck={false}
        value={typed}
        aria-invalid={showProblem}
        aria-describedby={showProblem ? "filter-problem" : undefined}
        onChange={(event) => {
          const value = event.target.value;
          setTyped(value);
          clearTimeout(timer.current);
          timer.current = setTimeout(() => apply(value), TYPING_DELAY);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter" || (event.key === "Escape" && typed === "")) {
            apply(typed);
            document.getElementById("images")?.focus();
          } else if (event.key === "Escape") {
            setTyped("");
            apply("");
          } else {
            return;
          }
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      {typed === "" ? <kbd aria-hidden="true">/</kbd> : null}
      {showProblem && problem ? (
        <div className="problem" id="filter-problem" role="status">
          {problem.position !== null && problem.position <= typed.length ? (
            <p className="expression">
              {typed.slice(0, problem.position)}
              <mark>{typed.slice(problem.position, problem.position + 1) || " "}</mark>
              {typed.slice(problem.position + 1)}
            </p>
          ) : null}
          <p>{problem.error}</p>
          {problem.hint ? <p className="muted">{problem.hint}</p> : null}
        </div>
      ) : null}
    </div>
  );
}
