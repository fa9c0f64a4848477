/** The tags of the images in scope: how often, how sure, what they mean; one key removes a tag everywhere. */

import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, memo, useEffect, useMemo, useRef } from "react";
import type { TagColumns } from "../api";
import { lacking, tagTerm, toggleTerm } from "../filters";
import { moveOf, step } from "../geometry";
import { many } from "../review";
import { sortedTags, type SortKey } from "../state";
import { useReview, useReviewState } from "./context";

const ROW = 26;
const HEADS: readonly (readonly [SortKey, string, string])[] = [
  ["tag", "Tag", "by name"],
  ["count", "Scope", "by images in scope"],
  ["total", "All", "by images in the whole dataset"],
  ["score", "Score", "by mean score, the least certain first"],
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
  const found = tags ? order.findIndex((at) => tags.tag[at] === tag) : -1;
  // The tag that was removed leaves its place to the next one.
  const place = useRef(0);
  if (found >= 0) place.current = found;
  const cursor = found >= 0 ? found : Math.min(place.current, order.length - 1);
  const current = tags?.tag[order[cursor] ?? -1] ?? null;

  const rows = useVirtualizer({
    count: order.length,
    getScrollElement: () => frame.current,
    estimateSize: () => ROW,
    overscan: 4,
  });
  useEffect(() => {
    if (cursor >= 0) rows.scrollToIndex(cursor);
  }, [rows, cursor]);
  useEffect(() => {
    if (current !== review.store.get().tag) review.store.set({ tag: current });
  }, [review, current, tag]);

  const show = (name: string, lack: boolean) =>
    void review.filterBy(toggleTerm(filter, lack ? lacking(name) : tagTerm(name)));
  const press = (event: KeyboardEvent) => {
    const move = moveOf(event.key);
    if (move && move !== "left" && move !== "right") {
      const page = Math.max(1, Math.floor((frame.current?.clientHeight ?? ROW) / ROW));
      const at = order[step(cursor, move, order.length, 1, page)];
      if (tags && at !== undefined) review.store.set({ tag: tags.tag[at] ?? null });
    } else if ((event.key === "Delete" || event.key === "Backspace") && current !== null) {
      void review.removeTag(current);
    } else if (event.key === "Enter" && current !== null) {
      show(current, event.shiftKey);
    } else if (event.key === "Escape") {
      if (query) review.store.set({ tagQuery: "" });
      else if (!review.letGo()) document.getElementById("images")?.focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <>
      <div className="find">
        <input
          id="find-tag"
          type="search"
          aria-label="Find a tag"
          placeholder={tags ? `Find among ${many(tags.tag.length, "tag")}` : "Find a tag"}
          autoComplete="off"
          spellCheck={false}
          value={query}
          onChange={(event) => {
            // What is found first is what the next key means.
            place.current = 0;
            review.store.set({ tagQuery: event.target.value, tag: null });
          }}
          onKeyDown={(event) => {
            if (event.key === "Escape" && query) review.store.set({ tagQuery: "" });
            else if (event.key === "Enter" || event.key === "ArrowDown" || event.key === "Escape")
              document.getElementById("tags")?.focus();
            else return;
            event.preventDefault();
            event.stopPropagation();
          }}
        />
        {query === "" ? <kbd aria-hidden="true">f</kbd> : null}
      </div>
      <div className="tag-heads" role="group" aria-label="Order of the tags">
        {HEADS.map(([key, says, title]) => (
          <button
            key={key}
            type="button"
            className="plain"
            aria-pressed={sort === key}
            title={title}
            onClick={() => review.store.set({ sort: key })}
          >
            {says}
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
        onKeyDown={press}
      >
        {tags && order.length === 0 ? <NoTags query={query} images={tags.images} /> : null}
        <div className="tags-ground" role="presentation" style={{ height: rows.getTotalSize() }}>
          {tags
            ? rows
                .getVirtualItems()
                .map((item) => (
                  <TagRow
                    key={item.key}
                    tags={tags}
                    at={order[item.index] ?? 0}
                    index={item.index}
                    of={order.length}
                    top={item.start}
                    active={item.index === cursor}
                    choose={(name) => review.store.set({ tag: name })}
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
  const says = query
    ? `No tag contains “${query}”.`
    : images
      ? "These images have no captions yet: dsk tag writes them."
      : "No images, no tags.";
  return (
    <p className="empty quiet" role="option" aria-selected="false">
      {says}
    </p>
  );
}

interface TagRowProps {
  readonly tags: TagColumns;
  readonly at: number;
  readonly index: number;
  readonly of: number;
  readonly top: number;
  readonly active: boolean;
  readonly choose: (tag: string) => void;
  readonly show: (tag: string, lack: boolean) => void;
}

const TagRow = memo(
  function TagRow({ tags, at, index, of, top, active, choose, show }: TagRowProps) {
    const name = tags.tag[at] ?? "";
    const score = tags.score[at] ?? null;
    const category = tags.category[at] ?? "";
    const translation = tags.translation[at] ?? "";
    const spellings = tags.spellings[at] ?? 1;
    return (
      <div
        id={`tag-${index}`}
        role="option"
        aria-selected={active}
        aria-posinset={index + 1}
        aria-setsize={of}
        className={active ? "tag-row active" : "tag-row"}
        style={{ transform: `translateY(${top}px)` }}
        title={spellings > 1 ? `${name}: written in ${spellings} ways` : name}
        onClick={(event) => {
          choose(name);
          if (event.ctrlKey || event.metaKey) show(name, event.shiftKey);
        }}
        onDoubleClick={(event) => show(name, event.shiftKey)}
      >
        <span className="name">
          <span className={`kind ${category}`}>{name}</span>
          {translation ? <span className="translation">{translation}</span> : null}
        </span>
        <span className="number">{(tags.count[at] ?? 0).toLocaleString("en")}</span>
        <span className="number quiet">{(tags.total[at] ?? 0).toLocaleString("en")}</span>
        <span className="number quiet">{score === null ? "–" : score.toFixed(2)}</span>
      </div>
    );
  },
  (a, b) =>
    a.tags === b.tags &&
    a.at === b.at &&
    a.index === b.index &&
    a.top === b.top &&
    a.active === b.active &&
    a.of === b.of &&
    a.show === b.show,
);

/** The same as the keys, for the mouse and for those who have not learnt them yet. */
function TagActions({ tag }: { readonly tag: string | null }) {
  const review = useReview();
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const trigger = useReviewState((state) => state.session?.trigger ?? NONE);
  if (readOnly) return null;
  return (
    <div className="tag-actions" role="group" aria-label="Edits of the scope">
      <button
        type="button"
        disabled={tag === null}
        onClick={() => tag !== null && void review.removeTag(tag)}
      >
        Remove <kbd>Del</kbd>
      </button>
      <button type="button" disabled={tag === null} onClick={() => review.open("replace")}>
        Replace <kbd>r</kbd>
      </button>
      <button type="button" onClick={() => review.open("add")}>
        Add <kbd>A</kbd>
      </button>
      <button
        type="button"
        onClick={() => review.open("trigger")}
        title={trigger.length ? `trigger: ${trigger.join(", ")}` : "no trigger yet"}
      >
        Trigger <kbd>t</kbd>
      </button>
      <button type="button" onClick={() => review.open("scores")}>
        Scores <kbd>c</kbd>
      </button>
    </div>
  );
}

const NONE: readonly string[] = [];
