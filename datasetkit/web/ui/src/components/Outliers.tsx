/** Tags that most images in scope have and some do not: often tags that the tagger missed. */

import { type KeyboardEvent, useEffect, useState } from "react";
import { moveOf, step } from "../geometry";
import { useReview, useReviewState } from "./context";

export function Outliers() {
  const review = useReview();
  const outliers = useReviewState((state) => state.outliers);
  const percent = useReviewState((state) => Math.round(state.share * 100));
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
          Tags of at least <b>{percent}%</b> of the images in scope
        </label>
        <input
          id="share"
          type="range"
          min={50}
          max={99}
          value={percent}
          onChange={(event) => void review.loadOutliers(Number(event.target.value) / 100)}
        />
      </div>
      <div className="tag-header two-columns" aria-hidden="true">
        <span>Tag</span>
        <span className="number">Missing in</span>
      </div>
      <div
        id="tags"
        className="tags"
        role="listbox"
        aria-label="Outliers: tags that most images have and some do not"
        tabIndex={0}
        aria-activedescendant={count ? `outlier-${active}` : undefined}
        onKeyDown={onKeyDown}
      >
        {outliers && count === 0 ? (
          <p className="empty muted" role="option" aria-selected="false">
            No tag that {percent}% of the images have is missing in the others.
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
            <span className="number">{(outliers.missing[row] ?? 0).toLocaleString("en")}</span>
          </div>
        ))}
      </div>
      <p className="hint">
        <kbd>Enter</kbd> shows the images without the tag, <kbd>o</kbd> returns to the tags
      </p>
    </>
  );
}
