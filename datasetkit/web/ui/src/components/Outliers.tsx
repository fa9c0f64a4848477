/** Tags that most images in scope have and some do not: often tags that the tagger missed. */

import { type KeyboardEvent, useEffect, useState } from "react";
import { moveOf, step } from "../geometry";
import { number, percent, t } from "../i18n";
import { HOLE, Rich } from "../parts/Rich";
import { useReview, useReviewState } from "./context";

export function Outliers() {
  const review = useReview();
  const outliers = useReviewState((state) => state.outliers);
  const whole = useReviewState((state) => Math.round(state.share * 100));
  const share = percent(whole / 100);
  const [cursor, setCursor] = useState(0);
  const count = outliers?.tag.length ?? 0;
  const active = Math.min(cursor, count - 1);
  useEffect(() => {
    document.getElementById(`outlier-${active}`)?.scrollIntoView({ block: "nearest" });
  }, [active]);

  const show = (row: number) => {
    const where = outliers?.where[row];
    if (where) void review.showMissing(where);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const move = moveOf(event.key);
    if (move && move !== "left" && move !== "right") setCursor(step(active, move, count, 1, 10));
    else if (event.key === "Enter") show(active);
    else if (event.key === "Escape") review.store.set({ sidebar: "tags" });
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <>
      <div className="share">
        <label htmlFor="share">
          <Rich text={t("captions.outliers.share", { share: HOLE })}>
            <b>{share}</b>
          </Rich>
        </label>
        <input
          id="share"
          type="range"
          min={50}
          max={99}
          value={whole}
          onChange={(event) => void review.loadOutliers(Number(event.target.value) / 100)}
        />
      </div>
      <div className="tag-header two-columns" aria-hidden="true">
        <span>{t("captions.tags.tag")}</span>
        <span className="number">{t("captions.outliers.missing")}</span>
      </div>
      <div
        id="tags"
        className="tags"
        role="listbox"
        aria-label={t("captions.outliers.label")}
        tabIndex={0}
        aria-activedescendant={count ? `outlier-${active}` : undefined}
        onKeyDown={onKeyDown}
      >
        {outliers && count === 0 ? (
          <p className="empty muted" role="option" aria-selected="false">
            {t("captions.outliers.none", { share })}
          </p>
        ) : null}
        {outliers?.tag.map((tag, row) => (
          <div
            key={tag}
            id={`outlier-${row}`}
            role="option"
            aria-selected={row === active}
            className={`tag-row two-columns in-flow${row === active ? " active" : ""}`}
            onClick={() => {
              setCursor(row);
              show(row);
            }}
          >
            <span className="name">{tag}</span>
            <span className="number">{number(outliers.missing[row] ?? 0)}</span>
          </div>
        ))}
      </div>
      <p className="hint">
        <Rich text={t("captions.outliers.hint", { enter: HOLE, o: HOLE })}>
          {[<kbd key="enter">Enter</kbd>, <kbd key="o">o</kbd>]}
        </Rich>
      </p>
    </>
  );
}
