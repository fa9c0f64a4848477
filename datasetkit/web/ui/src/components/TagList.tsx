/** The tags of the images in scope, with counts, scores and translations. */

import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
  memo,
  type MouseEvent,
  useCallback,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
} from "react";
import type { TagColumns } from "../api";
import { hasAny, hasNone, toggleTerm } from "../filters";
import { moveOf, step } from "../geometry";
import { number, t } from "../i18n";
import { NO_SELECTION } from "../selection";
import { removal, scopeSize, sortedTags, type SortKey, targetTags } from "../state";
import { useReview, useReviewState } from "./context";
import { useDryRun } from "./EditBars";

/** Rows with a translation below the tag are higher. */
const ROW_HEIGHT = 26;
const TRANSLATED_ROW_HEIGHT = 42;
const COLUMNS: readonly SortKey[] = ["tag", "count", "total", "score"];

export function TagList() {
  const review = useReview();
  const tags = useReviewState((state) => state.tags);
  const query = useReviewState((state) => state.tagQuery);
  const sort = useReviewState((state) => state.sort);
  const tag = useReviewState((state) => state.tag);
  const selection = useReviewState((state) => state.tagSelection.ids);
  const rowHeight = useReviewState((state) =>
    state.session?.translations ? TRANSLATED_ROW_HEIGHT : ROW_HEIGHT,
  );
  const frame = useRef<HTMLDivElement>(null);
  const order = useMemo(() => (tags ? sortedTags(tags, sort, query) : []), [tags, sort, query]);
  const names = useMemo(() => order.map((row) => tags?.tag[row] ?? ""), [tags, order]);
  const selected = tags ? order.findIndex((row) => tags.tag[row] === tag) : -1;
  // After a tag is removed, the cursor is on the one that followed it.
  const lastCursor = useRef(0);
  if (selected >= 0) lastCursor.current = selected;
  const cursor = selected >= 0 ? selected : Math.min(lastCursor.current, order.length - 1);
  const current = tags?.tag[order[cursor] ?? -1] ?? null;

  const rows = useVirtualizer({
    count: order.length,
    getScrollElement: () => frame.current,
    estimateSize: () => rowHeight,
    overscan: 4,
  });
  useLayoutEffect(() => rows.measure(), [rows, rowHeight]);
  useEffect(() => {
    if (cursor >= 0) rows.scrollToIndex(cursor);
  }, [rows, cursor]);
  useEffect(() => {
    if (current !== review.store.get().tag) review.store.set({ tag: current });
  }, [review, current, tag]);

  const show = useCallback(
    (tagsToShow: readonly string[], without: boolean) =>
      void review.setFilter(
        toggleTerm(review.store.get().filter, (without ? hasNone : hasAny)(tagsToShow)),
      ),
    [review],
  );
  const click = useCallback(
    (index: number, event: MouseEvent) => {
      if (event.ctrlKey || event.metaKey) review.toggleTag(names, index, true);
      else review.moveToTag(names, index, event.shiftKey);
    },
    [review, names],
  );
  const onKeyDown = (event: KeyboardEvent) => {
    const { key } = event;
    const move = moveOf(key);
    if (move && move !== "left" && move !== "right") {
      const page = Math.max(1, Math.floor((frame.current?.clientHeight ?? rowHeight) / rowHeight));
      review.moveToTag(names, step(cursor, move, order.length, 1, page), event.shiftKey);
    } else if (key === " ") {
      review.toggleTag(names, cursor);
    } else if (key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      review.selectAllTags(names);
    } else if ((key === "Delete" || key === "Backspace") && current !== null) {
      void review.removeTags();
    } else if (key === "Enter" && current !== null) {
      show(targetTags(review.store.get()), event.shiftKey);
    } else if (key === "Escape") {
      if (selection.size > 0) review.selectTagGroup(null);
      else if (query) review.store.set({ tagQuery: "" });
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
          aria-label={t("captions.tags.search")}
          placeholder={
            tags ? t("captions.tags.search.n", { n: tags.tag.length }) : t("captions.tags.search")
          }
          autoComplete="off"
          spellCheck={false}
          value={query}
          onChange={(event) => {
            // The first match becomes the selected tag.
            lastCursor.current = 0;
            review.store.set({
              tagQuery: event.target.value,
              tag: null,
              tagSelection: NO_SELECTION,
              tagGroup: null,
            });
          }}
          onKeyDown={(event) => {
            if (event.key === "Escape" && query) review.store.set({ tagQuery: "" });
            else if (!["Enter", "ArrowDown", "Escape"].includes(event.key)) return;
            else {
              if (event.key !== "Escape") review.selectSearchedGroup(query);
              document.getElementById("tags")?.focus();
            }
            event.preventDefault();
            event.stopPropagation();
          }}
        />
        {query === "" ? <kbd aria-hidden="true">f</kbd> : null}
      </div>
      <Groups />
      <div className="tag-header" role="group" aria-label={t("captions.tags.sort")}>
        {COLUMNS.map((key) => (
          <button
            key={key}
            type="button"
            className="plain"
            aria-pressed={sort === key}
            title={t(`captions.tags.${key}.title`)}
            onClick={() => review.store.set({ sort: key })}
          >
            {t(`captions.tags.${key}`)}
          </button>
        ))}
      </div>
      <div
        ref={frame}
        id="tags"
        className="tags"
        role="listbox"
        aria-label={t("captions.tags.label")}
        aria-multiselectable="true"
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
                    height={rowHeight}
                    active={item.index === cursor}
                    selected={
                      selection.size > 0
                        ? selection.has(names[item.index] ?? "")
                        : item.index === cursor
                    }
                    several={selection.size > 0}
                    click={click}
                    show={show}
                  />
                ))
            : null}
        </div>
      </div>
      <TagActions />
    </>
  );
}

/** The groups of tags in scope: one click selects the tags of a group. */
function Groups() {
  const review = useReview();
  const groups = useReviewState((state) => state.tags?.groups ?? null);
  const selected = useReviewState((state) => state.tagGroup);
  if (!groups || groups.name.length === 0) return null;
  return (
    <div className="tag-groups" role="group" aria-label={t("captions.groups")}>
      {groups.name.map((name, row) => (
        <button
          key={name}
          type="button"
          className="plain"
          aria-pressed={name === selected}
          title={t("captions.groups.select", {
            name,
            images: t("captions.n.image", { n: groups.images[row] ?? 0 }),
          })}
          onClick={() => {
            review.selectTagGroup(name === selected ? null : name);
            document.getElementById("tags")?.focus();
          }}
        >
          {name} <span className="number">{number(groups.images[row] ?? 0)}</span>
        </button>
      ))}
    </div>
  );
}

function NoTags({ query, images }: { readonly query: string; readonly images: number }) {
  const message = query
    ? t("captions.tags.noMatch", { query })
    : t(images ? "captions.tags.none" : "captions.tags.noImages");
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
  readonly height: number;
  readonly active: boolean;
  readonly selected: boolean;
  /** Whether several tags are selected together. */
  readonly several: boolean;
  readonly click: (index: number, event: MouseEvent) => void;
  readonly show: (tags: readonly string[], without: boolean) => void;
}

const TagRow = memo(
  function TagRow(props: TagRowProps) {
    const { tags, row, index, count, top, height, active, selected, several, click, show } = props;
    const name = tags.tag[row] ?? "";
    const score = tags.score[row] ?? null;
    const category = tags.category[row] ?? "";
    const translation = tags.translation[row] ?? "";
    const spellings = tags.spellings[row] ?? 1;
    const title = [
      name,
      translation,
      spellings > 1 ? t("captions.tags.spellings", { n: spellings }) : "",
    ];
    return (
      <div
        id={`tag-${index}`}
        role="option"
        aria-selected={selected}
        aria-posinset={index + 1}
        aria-setsize={count}
        className={`tag-row${active ? " active" : ""}${selected && several ? " selected" : ""}`}
        style={{ transform: `translateY(${top}px)`, height }}
        title={title.filter((part) => part !== "").join(": ")}
        onClick={(event) => click(index, event)}
        onDoubleClick={(event) => show([name], event.shiftKey)}
      >
        <span className="name">
          <span className={`category ${category}`}>{name}</span>
          {translation ? <span className="translation">{translation}</span> : null}
        </span>
        <span className="number">{number(tags.count[row] ?? 0)}</span>
        <span className="number muted">{number(tags.total[row] ?? 0)}</span>
        <span className="number muted">{score === null ? "–" : score.toFixed(2)}</span>
      </div>
    );
  },
  (a, b) =>
    a.tags === b.tags &&
    a.row === b.row &&
    a.index === b.index &&
    a.top === b.top &&
    a.height === b.height &&
    a.active === b.active &&
    a.selected === b.selected &&
    a.several === b.several &&
    a.count === b.count &&
    a.click === b.click &&
    a.show === b.show,
);

/** Buttons for the mouse, labeled with what they apply to and with their shortcuts. */
function TagActions() {
  const review = useReview();
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const trigger = useReviewState((state) => state.session?.trigger ?? NO_TRIGGER);
  const scope = useReviewState((state) => state.scope);
  const size = useReviewState(scopeSize);
  if (readOnly) return null;
  return (
    <div className="tag-actions" role="group" aria-label={t("captions.edit.scope")}>
      <RemoveButton />
      <ReplaceButton />
      <button type="button" onClick={() => review.openEditBar("add")}>
        {t(scope === "all" ? "captions.edit.addToAll" : "captions.edit.addTo", { n: size })}{" "}
        <kbd>A</kbd>
      </button>
      <button
        type="button"
        onClick={() => review.openEditBar("trigger")}
        title={
          trigger.length
            ? t("captions.edit.trigger.title", { words: trigger.join(", ") })
            : t("captions.edit.trigger.none")
        }
      >
        {t("captions.edit.trigger")} <kbd>t</kbd>
      </button>
      <button type="button" onClick={() => review.openEditBar("scores")}>
        {t("captions.edit.scores")} <kbd>c</kbd>
      </button>
    </div>
  );
}

/** Says what it removes, and from how many images. */
function RemoveButton() {
  const review = useReview();
  const tags = useReviewState((state) => state.tags);
  const tag = useReviewState((state) => state.tag);
  const tagSelection = useReviewState((state) => state.tagSelection);
  const tagGroup = useReviewState((state) => state.tagGroup);
  const targets = targetTags({ tag, tagSelection });
  // The list knows how many images have one tag; how many have one of several, only the server.
  const [only] = targets;
  const one = targets.length === 1 && tagGroup === null;
  const dryRun = useDryRun(one ? null : removal({ tag, tagSelection, tagGroup }));
  const count = one
    ? (tags?.count[tags.tag.indexOf(only ?? "")] ?? null)
    : dryRun && "result" in dryRun
      ? dryRun.result.changed
      : null;
  const what = tagGroup ?? (targets.length > 1 ? t("captions.n.tag", { n: targets.length }) : "");
  const from = targets.length === 0 ? null : count;
  return (
    <button type="button" disabled={targets.length === 0} onClick={() => void review.removeTags()}>
      {removeText(what, from)} <kbd>Del</kbd>
    </button>
  );
}

/** from: the number of images, if it is loaded. */
function removeText(what: string, from: number | null): string {
  if (from === null) {
    return what === "" ? t("captions.edit.remove") : t("captions.edit.remove.what", { what });
  }
  return what === ""
    ? t("captions.edit.remove.from", { from })
    : t("captions.edit.remove.what.from", { what, from });
}

function ReplaceButton() {
  const review = useReview();
  const count = useReviewState((state) => targetTags(state).length);
  return (
    <button type="button" disabled={count === 0} onClick={() => review.openEditBar("replace")}>
      {count > 1 ? t("captions.edit.replace.n", { n: count }) : t("captions.edit.replace")}{" "}
      <kbd>r</kbd>
    </button>
  );
}

const NO_TRIGGER: readonly string[] = [];
