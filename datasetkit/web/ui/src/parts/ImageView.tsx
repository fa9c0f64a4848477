/** One image, as large as the window takes. */

import { type KeyboardEvent, useEffect, useRef } from "react";
import { preview, thumbnail } from "../api";
import { useReview, useReviewState } from "./context";
import { Icon } from "./Icon";

export function ImageView() {
  const review = useReview();
  const cursor = useReviewState((state) => state.cursor);
  const listing = useReviewState((state) => state.listing);
  useReviewState((state) => state.revision);
  const chosen = useReviewState((state) => state.selection.chosen);
  const frame = useRef<HTMLDivElement>(null);
  const row = listing?.at(cursor);
  const total = listing?.total ?? 0;

  useEffect(() => frame.current?.focus(), []);
  useEffect(() => {
    listing?.need(cursor - 1, cursor + 1);
    const next = listing?.at(cursor + 1);
    // The next image is on its way while this one is looked at.
    if (next) new Image().src = preview(next.id, next.v);
  }, [listing, cursor]);

  const back = () => review.store.set({ view: "grid", editing: null });
  const press = (event: KeyboardEvent) => {
    if (event.key === "ArrowRight" || event.key === "ArrowDown")
      review.moveTo(Math.min(total - 1, cursor + 1));
    else if (event.key === "ArrowLeft" || event.key === "ArrowUp")
      review.moveTo(Math.max(0, cursor - 1));
    else if (event.key === "Home") review.moveTo(0);
    else if (event.key === "End") review.moveTo(total - 1);
    else if (event.key === " ") review.choose(cursor);
    else if (event.key === "Enter" || event.key === "Escape") back();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div
      ref={frame}
      id="images"
      className="one"
      role="group"
      aria-label="Image"
      tabIndex={0}
      onKeyDown={press}
    >
      <div className="one-bar">
        <button type="button" className="plain" onClick={back}>
          All images <kbd>Enter</kbd>
        </button>
        <span className="quiet">
          {total ? (cursor + 1).toLocaleString("en") : 0} of {total.toLocaleString("en")}
          {row && chosen.has(row.id) ? <b className="badge">selected</b> : null}
        </span>
        <span className="buttons">
          <button
            type="button"
            className="plain square"
            aria-label="Image before"
            disabled={cursor <= 0}
            onClick={() => review.moveTo(cursor - 1)}
          >
            <Icon name="left" />
          </button>
          <button
            type="button"
            className="plain square"
            aria-label="Next image"
            disabled={cursor >= total - 1}
            onClick={() => review.moveTo(cursor + 1)}
          >
            <Icon name="right" />
          </button>
        </span>
      </div>
      <div className="one-image" key={row?.id ?? -1}>
        {row ? (
          <>
            <img src={thumbnail(row.id, row.v)} alt="" className="under" />
            <img src={preview(row.id, row.v)} alt={row.name} decoding="async" />
          </>
        ) : null}
      </div>
    </div>
  );
}
