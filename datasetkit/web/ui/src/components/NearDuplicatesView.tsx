/** Near-duplicates, one group at a time: a number keeps an image and excludes the others. */

import { type KeyboardEvent, useEffect, useRef } from "react";
import { type NearDuplicates, preview } from "../api";
import { t } from "../i18n";
import type { GroupImage } from "../state";
import { useReview, useReviewState } from "./context";
import { Icon } from "./Icon";

export function NearDuplicatesView() {
  const review = useReview();
  const nearDuplicates = useReviewState((state) => state.nearDuplicates);
  const images = useReviewState((state) => state.groupImages);
  const group = useReviewState((state) => state.group);
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => frame.current?.focus(), []);

  const count = nearDuplicates?.groups.length ?? 0;
  const ids = nearDuplicates?.groups[group] ?? [];
  const largest = largestOf(ids.map((id) => images.get(id)));
  const goTo = (index: number) =>
    review.store.set({ group: Math.max(0, Math.min(count - 1, index)) });
  const back = () => review.store.set({ view: "grid" });
  const onKeyDown = (event: KeyboardEvent) => {
    const { key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === "ArrowRight" || key === "ArrowDown") goTo(group + 1);
    else if (key === "ArrowLeft" || key === "ArrowUp") goTo(group - 1);
    else if (/^[1-9]$/.test(key)) void review.keepOne(Number(key));
    else if (key === "b") void review.keepAll();
    else if (key === "Escape") back();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const comparing = nearDuplicates !== null && nearDuplicates.done < nearDuplicates.total;
  return (
    <div
      ref={frame}
      id="images"
      className="groups"
      role="group"
      aria-label={t("captions.near")}
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
      <div className="view-bar">
        <button type="button" className="plain" onClick={back}>
          {t("captions.image.all")} <kbd>Esc</kbd>
        </button>
        <span className="muted" role="status">
          {count ? t("captions.near.of", { at: group + 1, total: count }) : ""}
          {comparing ? ` (${progressOf(nearDuplicates)})` : ""}
          {count ? (
            <span className="badge">
              {nearDuplicates?.copies[group]
                ? t("captions.near.copies")
                : t("captions.near.differ")}
            </span>
          ) : null}
        </span>
        <span className="buttons">
          {readOnly || !count ? null : (
            <button type="button" onClick={() => void review.keepAll()}>
              {ids.length === 2
                ? t("captions.near.keepBoth")
                : t("captions.near.keepAll", { count: ids.length })}{" "}
              <kbd>b</kbd>
            </button>
          )}
          {readOnly || !nearDuplicates?.kept ? null : (
            <button
              type="button"
              className="plain"
              title={t("captions.near.again.title")}
              onClick={() => void review.offerKeptAgain()}
            >
              {t("captions.near.again", { n: nearDuplicates.kept })}
            </button>
          )}
          <button
            type="button"
            className="plain icon-only"
            aria-label={t("captions.near.previous")}
            disabled={group <= 0}
            onClick={() => goTo(group - 1)}
          >
            <Icon name="left" />
          </button>
          <button
            type="button"
            className="plain icon-only"
            aria-label={t("captions.near.next")}
            disabled={group >= count - 1}
            onClick={() => goTo(group + 1)}
          >
            <Icon name="right" />
          </button>
        </span>
      </div>
      {nearDuplicates !== null && count === 0 ? (
        <div className="empty">
          <h2>{comparing ? t("captions.near.looking") : t("captions.near.none")}</h2>
          <p className="muted">
            {comparing
              ? t("captions.near.looking.hint")
              : t(nearDuplicates.kept ? "captions.near.compared.kept" : "captions.near.compared", {
                  images: t("captions.n.image", { n: nearDuplicates.total }),
                })}
          </p>
        </div>
      ) : (
        <ul
          className="near-duplicates"
          style={{ gridTemplateColumns: `repeat(${columnsFor(ids.length)}, minmax(0, 1fr))` }}
        >
          {ids.map((id, index) => {
            const image = images.get(id);
            return (
              <li key={id}>
                <div className="near-duplicate-image">
                  {image ? (
                    <img src={preview(id, image.v)} alt={image.name} decoding="async" />
                  ) : null}
                </div>
                <p title={image?.name}>{image?.name ?? ""}</p>
                <p className="muted small">
                  {image ? factsOf(image) : ""}
                  {index === largest ? (
                    <span className="badge">{t("captions.near.largest")}</span>
                  ) : null}
                </p>
                {readOnly ? null : (
                  <button type="button" onClick={() => void review.keepOne(index + 1)}>
                    {t("captions.near.keep")} {index < 9 ? <kbd>{index + 1}</kbd> : null}
                  </button>
                )}
              </li>
            );
          })}
        </ul>
      )}
    </div>
  );
}

function progressOf({ done, total }: NearDuplicates): string {
  return t("captions.near.compared.of", { done, images: t("captions.n.image", { n: total }) });
}

function factsOf(image: GroupImage): string {
  const tags = image.tags < 0 ? t("captions.noCaption") : t("captions.n.tag", { n: image.tags });
  return `${image.w} × ${image.h}  ·  ${tags}`;
}

/** The index of the image with the most pixels; -1 if several have as many. */
function largestOf(images: readonly (GroupImage | undefined)[]): number {
  const areas = images.map((image) => (image?.w ?? 0) * (image?.h ?? 0));
  const largest = Math.max(...areas);
  return areas.filter((area) => area === largest).length === 1 ? areas.indexOf(largest) : -1;
}

/** Up to four in a row; more than four in rows of three or four, large enough to compare. */
function columnsFor(count: number): number {
  return count <= 4 ? Math.max(1, count) : count <= 6 ? 3 : 4;
}
