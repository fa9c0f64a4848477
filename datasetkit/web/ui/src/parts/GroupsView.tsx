/** Near-duplicates, a group at a time: one number keeps an image and excludes the others. */

import { type KeyboardEvent, useEffect, useRef } from "react";
import { preview } from "../api";
import { many } from "../review";
import { useReview, useReviewState } from "./context";
import { Icon } from "./Icon";

export function GroupsView() {
  const review = useReview();
  const groups = useReviewState((state) => state.groups);
  const rows = useReviewState((state) => state.groupRows);
  const group = useReviewState((state) => state.group);
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const frame = useRef<HTMLDivElement>(null);
  useEffect(() => frame.current?.focus(), []);

  const count = groups?.groups.length ?? 0;
  const ids = groups?.groups[group] ?? [];
  const areas = ids.map((id) => (rows.get(id)?.w ?? 0) * (rows.get(id)?.h ?? 0));
  const largest =
    areas.filter((area) => area === Math.max(...areas)).length === 1
      ? areas.indexOf(Math.max(...areas))
      : -1;
  const go = (to: number) => review.store.set({ group: Math.max(0, Math.min(count - 1, to)) });
  const back = () => review.store.set({ view: "grid" });
  const press = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowRight" || event.key === "ArrowDown") go(group + 1);
    else if (event.key === "ArrowLeft" || event.key === "ArrowUp") go(group - 1);
    else if (/^[1-9]$/.test(event.key)) void review.keepOne(Number(event.key));
    else if (event.key === "Escape") back();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const looking = groups !== null && groups.done < groups.of;
  return (
    <div
      ref={frame}
      id="images"
      className="groups"
      role="group"
      aria-label="Near-duplicates"
      tabIndex={0}
      onKeyDown={press}
    >
      <div className="one-bar">
        <button type="button" className="plain" onClick={back}>
          All images <kbd>Esc</kbd>
        </button>
        <span className="quiet" role="status">
          {count
            ? `group ${(group + 1).toLocaleString("en")} of ${count.toLocaleString("en")}`
            : ""}
          {looking
            ? ` (looked at ${groups.done.toLocaleString("en")} of ${groups.of.toLocaleString("en")} images)`
            : ""}
        </span>
        <span className="buttons">
          <button
            type="button"
            className="plain square"
            aria-label="Group before"
            disabled={group <= 0}
            onClick={() => go(group - 1)}
          >
            <Icon name="left" />
          </button>
          <button
            type="button"
            className="plain square"
            aria-label="Next group"
            disabled={group >= count - 1}
            onClick={() => go(group + 1)}
          >
            <Icon name="right" />
          </button>
        </span>
      </div>
      {groups !== null && count === 0 ? (
        <div className="empty">
          <h2>{looking ? "Looking for near-duplicates…" : "No near-duplicates"}</h2>
          <p className="quiet">
            {looking
              ? "They appear here as they are found."
              : `${many(groups.of, "image")} compared: all of them differ.`}
          </p>
        </div>
      ) : (
        <ul
          className="twins"
          style={{ gridTemplateColumns: `repeat(${columnsFor(ids.length)}, minmax(0, 1fr))` }}
        >
          {ids.map((id, at) => {
            const row = rows.get(id);
            return (
              <li key={id}>
                <div className="twin-image">
                  {row ? <img src={preview(id, row.v)} alt={row.name} decoding="async" /> : null}
                </div>
                <p title={row?.name}>{row?.name ?? ""}</p>
                <p className="quiet small">
                  {row
                    ? `${row.w} × ${row.h}  ·  ${row.tags < 0 ? "no caption" : many(row.tags, "tag")}`
                    : ""}
                  {at === largest ? <span className="badge">largest</span> : null}
                </p>
                {readOnly ? null : (
                  <button type="button" onClick={() => void review.keepOne(at + 1)}>
                    Keep this {at < 9 ? <kbd>{at + 1}</kbd> : null}
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

/** Up to four side by side; more in rows of three or four, so that each stays large enough to compare. */
function columnsFor(count: number): number {
  return count <= 4 ? Math.max(1, count) : count <= 6 ? 3 : 4;
}
