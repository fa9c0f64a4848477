/** Suggestions: tags to remove from captions or to add, with the reason. Rows are ticked and taken. */

import { type KeyboardEvent, useEffect, useState } from "react";
import { PRUNE_KINDS, type PruneKind } from "../api";
import { moveOf, step } from "../geometry";
import { language, number, t, tKey } from "../i18n";
import { HOLE, Rich } from "../parts/Rich";
import { useReview, useReviewState } from "./context";

export function Suggestions() {
  const review = useReview();
  const table = useReviewState((state) => state.suggestions);
  const kind = useReviewState((state) => state.pruneKind);
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const [cursor, setCursor] = useState(0);
  const [ticked, setTicked] = useState<ReadonlySet<number>>(new Set());
  const count = table?.tag.length ?? 0;
  const active = Math.min(cursor, count - 1);
  // A new table begins with what is recommended.
  useEffect(() => {
    setTicked(new Set(table?.recommended.flatMap((yes, row) => (yes ? [row] : [])) ?? []));
  }, [table]);
  useEffect(() => {
    document.getElementById(`suggestion-${active}`)?.scrollIntoView({ block: "nearest" });
  }, [active]);

  const toggle = (row: number) => {
    const next = new Set(ticked);
    if (!next.delete(row)) next.add(row);
    setTicked(next);
  };
  const show = (row: number) => {
    const where = table?.where[row];
    if (where) void review.showMissing(where);
  };
  const take = () => void review.takeSuggestions([...ticked].sort((a, b) => a - b));
  const onKeyDown = (event: KeyboardEvent) => {
    const move = moveOf(event.key);
    if (move && move !== "left" && move !== "right") setCursor(step(active, move, count, 1, 10));
    else if (event.key === " " && count) toggle(active);
    else if (event.key === "Enter") show(active);
    else if (event.key === "Escape") review.store.set({ sidebar: "tags" });
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <>
      <div className="share">
        <label htmlFor="prune-kind">{t("captions.suggest.kind")} </label>
        <select
          id="prune-kind"
          value={kind}
          onChange={(event) => void review.loadSuggestions(event.target.value as PruneKind)}
        >
          {PRUNE_KINDS.map((name) => (
            <option key={name} value={name}>
              {t(`train.goal.${name}`)}
            </option>
          ))}
        </select>
      </div>
      <div
        id="tags"
        className="tags"
        role="listbox"
        aria-multiselectable="true"
        aria-label={t("captions.suggest.label")}
        tabIndex={0}
        aria-activedescendant={count ? `suggestion-${active}` : undefined}
        onKeyDown={onKeyDown}
      >
        {table && count === 0 ? (
          <p className="empty muted" role="option" aria-selected="false">
            {t("captions.suggest.none")}
          </p>
        ) : null}
        {table?.tag.map((tag, row) => (
          <div
            key={`${table.folder[row]} ${table.action[row]} ${tag} ${table.why[row]}`}
            id={`suggestion-${row}`}
            role="option"
            aria-selected={ticked.has(row)}
            className={row === active ? "suggestion active" : "suggestion"}
            onClick={() => {
              setCursor(row);
              toggle(row);
            }}
          >
            <span aria-hidden="true">{ticked.has(row) ? "☑" : "☐"}</span>
            <span className="name">
              <Rich text={t(`captions.suggest.${table.action[row] ?? "remove"}`, { tag: HOLE })}>
                <b>{tag}</b>
              </Rich>
              <span className="muted small">
                {" "}
                {language() === "en" ? table.reason[row] : tKey(`captions.why.${table.why[row]}`)}
              </span>
            </span>
            <span className="number">
              {number(table.count[row] ?? 0)}/{number(table.of[row] ?? 0)}
            </span>
          </div>
        ))}
      </div>
      {readOnly ? null : (
        <p className="hint">
          <button type="button" className="primary" disabled={ticked.size === 0} onClick={take}>
            {t("captions.suggest.take", { n: ticked.size })}
          </button>
        </p>
      )}
      <p className="hint">
        <Rich text={t("captions.suggest.hint", { space: HOLE, enter: HOLE, v: HOLE })}>
          {[<kbd key="space">Space</kbd>, <kbd key="enter">Enter</kbd>, <kbd key="v">v</kbd>]}
        </Rich>
      </p>
    </>
  );
}
