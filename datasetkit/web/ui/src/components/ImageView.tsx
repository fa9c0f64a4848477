/** One image, as large as the window allows. */

import { type KeyboardEvent, useEffect, useRef } from "react";
import { preview, thumbnail } from "../api";
import { t } from "../i18n";
import { useReview, useReviewState } from "./context";
import { Icon } from "./Icon";

export function ImageView() {
  const review = useReview();
  const cursor = useReviewState((state) => state.cursor);
  const listing = useReviewState((state) => state.listing);
  useReviewState((state) => state.revision);
  const selected = useReviewState((state) => state.selection.ids);
  const frame = useRef<HTMLDivElement>(null);
  const row = listing?.at(cursor);
  const total = listing?.total ?? 0;

  useEffect(() => frame.current?.focus(), []);
  useEffect(() => {
    listing?.need(cursor - 1, cursor + 1);
    const next = listing?.at(cursor + 1);
    // Preload the next image.
    if (next) new Image().src = preview(next.id, next.v);
  }, [listing, cursor]);

  const back = () => review.store.set({ view: "grid", editing: null });
  const onKeyDown = (event: KeyboardEvent) => {
    const { key } = event;
    if (key === "ArrowRight" || key === "ArrowDown") review.moveTo(Math.min(total - 1, cursor + 1));
    else if (key === "ArrowLeft" || key === "ArrowUp") review.moveTo(Math.max(0, cursor - 1));
    else if (key === "Home") review.moveTo(0);
    else if (key === "End") review.moveTo(total - 1);
    else if (key === " ") review.toggleSelected(cursor);
    else if (key === "Enter" || key === "Escape") back();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div
      ref={frame}
      id="images"
      className="image-view"
      role="group"
      aria-label={t("captions.image")}
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
      <div className="view-bar">
        <button type="button" className="plain" onClick={back}>
          {t("captions.image.all")} <kbd>Enter</kbd>
        </button>
        <span className="muted">
          {t("captions.image.of", { at: total ? cursor + 1 : 0, total })}
          {row && selected.has(row.id) ? <b className="badge">{t("captions.selected")}</b> : null}
        </span>
        <span className="buttons">
          <button
            type="button"
            className="plain icon-only"
            aria-label={t("captions.image.previous")}
            disabled={cursor <= 0}
            onClick={() => review.moveTo(cursor - 1)}
          >
            <Icon name="left" />
          </button>
          <button
            type="button"
            className="plain icon-only"
            aria-label={t("captions.image.next")}
            disabled={cursor >= total - 1}
            onClick={() => review.moveTo(cursor + 1)}
          >
            <Icon name="right" />
          </button>
        </span>
      </div>
      <div className="full-image" key={row?.id ?? -1}>
        {row ? (
          <>
            <img src={thumbnail(row.id, row.v)} alt="" className="placeholder" />
            <img src={preview(row.id, row.v)} alt={row.name} decoding="async" />
          </>
        ) : null}
      </div>
    </div>
  );
}
