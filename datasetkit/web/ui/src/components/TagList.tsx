/** The tags of the images in scope, with counts, scores and translations. */

import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, memo, useEffect, useMemo, useRef } from "react";
import type { TagColumns } from "../api";
import { hasTag, toggleTerm, withoutTag } from "../filters";
import { moveOf, step } from "../geometry";
import { plural } from "../review";
import { sortedTags, type SortKey } from "../state";
import { useReview, useReviewState } from "./context";

const ROW_HEIGHT = 26;
const COLUMNS: readonly (readonly [SortKey, string, string])[] = [
  ["tag", "Tag", "Sort by name"],
  ["count", "Scope", "Sort by images in scope"],
  ["total", "All", "Sort by images in the dataset"],
  ["score", "Score", "Sort by mean score, lowest first"],
];

export function TagList() {
  const review = useReview();
  const tags = useReviewState((state) => state.tags);
  const query = useReviewState((state) => state.tagQuery);
  const sort = useReviewState((state) => state.sort);
  const tag = useReviewState((state) => state.tag);
  const filter = useReviewState((state) => state.filter);
  const frame = useRef<HTMLDivElement>(null);
  const order = useMemo(() => (tags ? sortedTags(tags, sort, query) : []), [tags, sort, query]);
  const selected = tags ? order.findIndex((row) => tags.tag[row] === tag) : -1;
  // After a tag is removed, the cursor is on the one that followed it.
  const lastCursor = useRef(0);
  if (selected >= 0) lastCursor.current = selected;
  const cursor = selected >= 0 ? selected : Math.min(lastCursor.current, order.length - 1);
  const current = tags?.tag[order[cursor] ?? -1] ?? null;

  const rows = useVirtualizer({
    count: order.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 4,
  });
  useEffect(() => {
    if (cursor >= 0) rows.scrollToIndex(cursor);
  }, [rows, cursor]);
  useEffect(() => {
    if (current !== review.store.get().tag) review.store.set({ tag: current });
  }, [review, current, tag]);

  const show = (name: string, without: boolean) =>
    void review.setFilter(toggleTerm(filter, without ? withoutTag(name) : hasTag(name)));
  const onKeyDown = (event: KeyboardEvent) => {
    const move = moveOf(event.key);
    if (move && move !== "left" && move !== "right") {
      const page = Math.max(
        1,
        Math.floor((frame.current?.clientHeight ?? ROW_HEIGHT) / ROW_HEIGHT),
      );
      const row = order[step(cursor, move, order.length, 1, page)];
      if (tags && row !== undefined) review.store.set({ tag: tags.tag[row] ?? null });
    } else if ((event.key === "Delete" || event.key === "Backspace") && current !== null) {
      void review.removeTag(current);
    } else if (event.key === "Enter" && current !== null) {
      show(current, event.shiftKey);
    } else if (event.key === "Escape") {
      if (query) review.store.set({ tagQuery: "" });
      else if (!review.clear()) document.getElementById("images")?.focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <>
      <div className="tag-search">
        <input
          id="search-tags"
          type="search"
          aria-label="Search tags"
          placeholder={tags ? `Search ${plural(tags.tag.length, "tag")}` : "Search tags"}
          autoComplete="off"
          spellCheck={false}
          value={query}
          onChange={(event) => {
            // The first match becomes the selected tag.
            lastCursor.current = 0;
            review.store.set({ tagQuery: event.target.value, tag: null });
          }}
          onKeyDown={(event) => {
            if (event.key === "Escape" && query) review.store.set({ tagQuery: "" });
            else if (!["Enter", "ArrowDown", "Escape"].includes(event.key)) return;
            else document.getElementById("tags")?.focus();
            event.preventDefault();
            event.stopPropagation();
          }}
        />
        {query === "" ? <kbd aria-hidden="true">f</kbd> : null}
      </div>
      <div className="tag-header" role="group" aria-label="Sort order">
        {COLUMNS.map(([key, label, title]) => (
          <button
            key={key}
            type="button"
            className="plain"
            aria-pressed={sort === key}
            title={title}
            onClick={() => review.store.set({ sort: key })}
          >
            {label}
          </button>
        ))}
      </div>
      <div
        ref={frame}
        id="tags"
        className="tags"
        role="listbox"
        aria-label="Tags in scope"
        tabIndex={0}
        aria-activedescendant={
          rows.getVirtualItems().some((item) => item.index === cursor) ? `tag-${cursor}` : undefined
        }
        onKeyDown={onKeyDown}
      >
        {tags && order.length === 0 ? <NoTags query={query} images={tags.images} /> : null}
        <div className="tags-canvas" role="presentation" style={{ height: rows.getTotalSize() }}>
          {tags
            ? rows
                .getVirtualItems()
                .map((item) => (
                  <TagRow
                    key={item.key}
                    tags={tags}
                    row={order[item.index] ?? 0}
                    index={item.index}
                    count={order.length}
                    top={item.start}
                    active={item.index === cursor}
                    select={(name) => review.store.set({ tag: name })}
                    show={show}
                  />
                ))
            : null}
        </div>
      </div>
      <TagActions tag={current} />
    </>
  );
}

function NoTags({ query, images }: { readonly query: string; readonly images: number }) {
  const message = query
    ? `No tags match “${query}”.`
    : images
      ? "These images have no captions yet. Run dsk tag to write them."
      : "No images in scope.";
  return (
    <p className="empty muted" role="option" aria-selected="false">
      {message}
    </p>
  );
}

interface TagRowProps {
  readonly tags: TagColumns;
  /** In the columns of `tags`. */
  readonly row: number;
  readonly index: number;
  readonly count: number;
  readonly top: number;
  readonly active: boolean;
  readonly select: (tag: string) => void;
  readonly show: (tag: string, without: boolean) => void;
}

const TagRow = memo(
  function TagRow({ tags, row, index, count, top, active, select, show }: TagRowProps) {
    const name = tags.tag[row] ?? "";
    const score = tags.score[row] ?? null;
    const category = tags.category[row] ?? "";
    const translation = tags.translation[row] ?? "";
    const spellings = tags.spellings[row] ?? 1;
    return (
      <div
        id={`tag-${index}`}
        role="option"
        aria-selected={active}
        aria-posinset={index + 1}
        aria-setsize={count}
        className={active ? "tag-row active" : "tag-row"}
        style={{ transform: `translateY(${top}px)` }}
        title={spellings > 1 ? `${name}: spelled in ${spellings} ways` : name}
        onClick={(event) => {
          select(name);
          if (event.ctrlKey || event.metaKey) show(name, event.shiftKey);
        }}
        onDoubleClick={(event) => show(name, event.shiftKey)}
      >
        <span className="name">
          <span className={`category ${category}`}>{name}</span>
          {translation ? <span className="translation">{translation}</span> : null}
        </span>
        <span className="number">{(tags.count[row] ?? 0).toLocaleString("en")}</span>
        <span className="number muted">{(tags.total[row] ?? 0).toLocaleString("en")}</span>
        <span className="number muted">{score === null ? "–" : score.toFixed(2)}</span>
      </div>
    );
  },
  (a, b) =>
    a.tags === b.tags &&
    a.row === b.row &&
    a.index === b.index &&
    a.top === b.top &&
    a.active === b.active &&
    a.count === b.count &&
    a.show === b.show,
);

/** Buttons for the mouse, labeled with their shortcuts. */
function TagActions({ tag }: { readonly tag: string | null }) {
  const review = useReview();
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const trigger = useReviewState((state) => state.session?.trigger ?? NO_TRIGGER);
  if (readOnly) return null;
  return (
    <div className="tag-actions" role="group" aria-label="Edit all captions in scope">
      <button
        type="button"
        disabled={tag === null}
        onClick={() => tag !== null && void review.removeTag(tag)}
      >
        Remove <kbd>Del</kbd>
      </button>
      <button type="button" disabled={tag === null} onClick={() => review.openEditBar("replace")}>
        Replace <kbd>r</kbd>
      </button>
      <button type="button" onClick={() => review.openEditBar("add")}>
        Add <kbd>A</kbd>
      </button>
      <button
        type="button"
        onClick={() => review.openEditBar("trigger")}
        title={trigger.length ? `Trigger: ${trigger.join(", ")}` : "No trigger is set"}
      >
        Trigger <kbd>t</kbd>
      </button>
      <button type="button" onClick={() => review.openEditBar("scores")}>
        Scores <kbd>c</kbd>
      </button>
    </div>
  );
}

const NO_TRIGGER: readonly string[] = [];
