/** The bar at the top: what is shown, what an edit will reach, and the way back. */

import { useEffect, useRef, useState } from "react";
import { useReview, useReviewState } from "./context";
import { Icon } from "./Icon";
import { ScopeChip } from "./ScopeChip";

/** Milliseconds from the last letter to the question: typing fast asks once. */
const PAUSE = 40;
/** An expression that is still being typed is not yet wrong. */
const PATIENCE = 500;

export function TopBar({ toggleTheme }: { readonly toggleTheme: () => void }) {
  const review = useReview();
  const session = useReviewState((state) => state.session);
  const undo = useReviewState((state) => state.undo);
  const redo = useReviewState((state) => state.redo);
  const theme = useReviewState((state) => state.theme);
  const panel = useReviewState((state) => state.panel);
  const view = useReviewState((state) => state.view);
  return (
    <header className="top">
      <h1 title={session?.name}>{session?.name ?? ""}</h1>
      <FilterBox />
      <ScopeChip />
      <div className="buttons">
        {session?.read_only ? (
          <span className="badge">only reading</span>
        ) : (
          <>
            <button
              type="button"
              className="plain square"
              disabled={undo === null}
              title={undo ? `Undo (u): ${undo}` : "Nothing to undo"}
              aria-label="Undo"
              onClick={() => void review.undo()}
            >
              <Icon name="undo" />
            </button>
            <button
              type="button"
              className="plain square"
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
          className="plain square"
          title="Near-duplicates (g)"
          aria-label="Near-duplicates"
          aria-pressed={view === "groups"}
          onClick={() =>
            view === "groups" ? review.store.set({ view: "grid" }) : void review.findGroups()
          }
        >
          <Icon name="twins" />
        </button>
        <button
          type="button"
          className="plain square"
          title="Caption beside the images"
          aria-label="Caption beside the images"
          aria-pressed={panel}
          onClick={() => review.store.set({ panel: !panel })}
        >
          <Icon name="panel" />
        </button>
        <button
          type="button"
          className="plain square"
          title="Light or dark (m)"
          aria-label={theme === "dark" ? "Light" : "Dark"}
          onClick={toggleTheme}
        >
          <Icon name={theme === "dark" ? "light" : "dark"} />
        </button>
        <button
          type="button"
          title="All keys (?)"
          onClick={() => review.store.set({ sheet: true })}
        >
          Keys <kbd>?</kbd>
        </button>
      </div>
    </header>
  );
}

function FilterBox() {
  const review = useReview();
  const filter = useReviewState((state) => state.filter);
  const problem = useReviewState((state) => state.filterProblem);
  const [typed, type] = useState(filter);
  const [told, tell] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => type(filter), [filter]);
  useEffect(() => {
    tell(false);
    if (problem === null) return;
    const patience = setTimeout(() => tell(true), PATIENCE);
    return () => clearTimeout(patience);
  }, [problem]);

  const ask = (value: string) => {
    clearTimeout(timer.current);
    void review.filterBy(value);
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
        aria-invalid={told}
        aria-describedby={told ? "filter-problem" : undefined}
        onChange={(event) => {
          const value = event.target.value;
          type(value);
          clearTimeout(timer.current);
          timer.current = setTimeout(() => ask(value), PAUSE);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter" || (event.key === "Escape" && typed === "")) {
            ask(typed);
            document.getElementById("images")?.focus();
          } else if (event.key === "Escape") {
            type("");
            ask("");
          } else {
            return;
          }
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      {typed === "" ? <kbd aria-hidden="true">/</kbd> : null}
      {told && problem ? (
        <div className="problem" id="filter-problem" role="status">
          {problem.at !== null && problem.at <= typed.length ? (
            <p className="where">
              {typed.slice(0, problem.at)}
              <mark>{typed.slice(problem.at, problem.at + 1) || " "}</mark>
              {typed.slice(problem.at + 1)}
            </p>
          ) : null}
          <p>{problem.error}</p>
          {problem.hint ? <p className="quiet">{problem.hint}</p> : null}
        </div>
      ) : null}
    </div>
  );
}
