/** The top bar: filter, scope, undo and the buttons for views. */

import { useEffect, useRef, useState } from "react";
import { t } from "../i18n";
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
          <span className="badge">{t("captions.readOnly")}</span>
        ) : (
          <>
            <button
              type="button"
              className="plain icon-only"
              disabled={undo === null}
              title={undo ? t("captions.undo.what", { what: undo }) : t("captions.undo.none")}
              aria-label={t("captions.undo")}
              onClick={() => void review.undo()}
            >
              <Icon name="undo" />
            </button>
            <button
              type="button"
              className="plain icon-only"
              disabled={redo === null}
              title={redo ? t("captions.redo.what", { what: redo }) : t("captions.redo.none")}
              aria-label={t("captions.redo")}
              onClick={() => void review.redo()}
            >
              <Icon name="redo" />
            </button>
          </>
        )}
        <button
          type="button"
          className="plain"
          title={t("captions.near.title")}
          aria-pressed={view === "near-duplicates"}
          onClick={() =>
            view === "near-duplicates"
              ? review.store.set({ view: "grid" })
              : void review.showNearDuplicates()
          }
        >
          <Icon name="nearDuplicates" />{" "}
          <span className="word">
            {t("captions.near")} <kbd>g</kbd>
          </span>
        </button>
        <button
          type="button"
          className="plain"
          title={t("captions.panel.title")}
          aria-pressed={panelOpen}
          onClick={() => review.store.set({ panelOpen: !panelOpen })}
        >
          <Icon name="panel" /> <span className="word">{t("captions.panel")}</span>
        </button>
        {embedded ? null : (
          <button
            type="button"
            className="plain icon-only"
            title={t("captions.theme.title")}
            aria-label={t(theme === "dark" ? "band.theme.light" : "band.theme.dark")}
            onClick={toggleTheme}
          >
            <Icon name={theme === "dark" ? "light" : "dark"} />
          </button>
        )}
        <button
          type="button"
          title={t("captions.shortcuts.title")}
          onClick={() => review.store.set({ shortcutsOpen: true })}
        >
          <span className="word">{t("captions.shortcuts")}</span> <kbd>?</kbd>
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
        aria-label={t("captions.filter")}
        placeholder={t("captions.filter.example", { example: "tag:smile AND NOT score:<0.4" })}
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
