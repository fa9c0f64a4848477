/** Tags that most images in scope have, and how many lack them: often what a tagger overlooked. */

import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { moveOf, step } from "../geometry";
import { useReview, useReviewState } from "./context";

export function Outliers() {
  const review = useReview();
  const outliers = useReviewState((state) => state.outliers);
  const share = useReviewState((state) => state.share);
  const [cursor, setCursor] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const count = outliers?.tag.length ?? 0;
  const at = Math.min(cursor, count - 1);
  useEffect(() => {
    document.getElementById(`outlier-${at}`)?.scrollIntoView({ block: "nearest" });
  }, [at]);

  const show = (place: number) => {
    const where = outliers?.where[place];
    if (where) void review.showLacking(where);
  };
  const press = (event: KeyboardEvent) => {
    const move = moveOf(event.key);
    if (move && move !== "left" && move !== "right") setCursor(step(at, move, count, 1, 10));
    else if (event.key === "Enter") show(at);
    else if (event.key === "Escape") review.store.set({ side: "tags" });
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <>
      <div className="share">
        <label htmlFor="share">
          Tags that at least <b>{Math.round(share * 100)} %</b> of the images in scope have
        </label>
        <input
          id="share"
          type="range"
          min={50}
          max={99}
          value={Math.round(share * 100)}
          onChange={(event) => void review.findOutliers(Number(event.target.value) / 100)}
        />
      </div>
      <div className="tag-heads two" aria-hidden="true">
        <span>Tag</span>
        <span className="number">Lack it</span>
      </div>
      <div
        ref={list}
        id="tags"
        className="tags"
        role="listbox"
        aria-label="Outliers: tags that most images have and some lack"
        tabIndex={0}
        aria-activedescendant={count ? `outlier-${at}` : undefined}
        onKeyDown={press}
      >
        {outliers && count === 0 ? (
          <p className="empty quiet" role="option" aria-selected="false">
            No image lacks what {Math.round(share * 100)} % of the others have.
          </p>
        ) : null}
        {outliers?.tag.map((tag, place) => (
          <div
            key={tag}
            id={`outlier-${place}`}
            role="option"
            aria-selected={place === at}
            className={place === at ? "tag-row two flow active" : "tag-row two flow"}
            onClick={() => {
              setCursor(place);
              show(place);
            }}
          >
            <span className="name">{tag}</span>
            <span className="number">{(outliers.lacking[place] ?? 0).toLocaleString("en")}</span>
          </div>
        ))}
      </div>
      <p className="hint">
        <kbd>Enter</kbd> shows the images that lack it, <kbd>o</kbd> goes back to the tags
      </p>
    </>
  );
}
