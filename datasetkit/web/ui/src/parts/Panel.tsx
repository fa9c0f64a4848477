/** The image under the cursor and its caption: each tag with its score and meaning, to remove, add or rewrite. */

import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import { type Image, preview, type ScoredTag } from "../api";
import { diffTags, folded, parseTags } from "../captions";
import { many } from "../review";
import { useReview, useReviewState } from "./context";
import { Suggest } from "./Suggest";

export function Panel({ withImage }: { readonly withImage: boolean }) {
  const seen = useReviewState((state) => state.image);
  const here = useReviewState((state) => state.listing?.at(state.cursor)?.id ?? null);
  const editing = useReviewState((state) => state.editing);
  // The last image stays until the next one was read; what is typed is for the one under the cursor, read or not.
  const image = editing === null || seen?.id === here ? seen : null;
  const id = image?.id ?? here;
  return (
    <aside className="panel" aria-label="Caption">
      {withImage && image ? (
        <div className="panel-image">
          <img key={image.id} src={preview(image.id, image.v)} alt={image.name} decoding="async" />
        </div>
      ) : null}
      {image ? <Facts image={image} /> : null}
      {id === null ? null : <Caption id={id} image={image} />}
    </aside>
  );
}

function Facts({ image }: { readonly image: Image }) {
  const review = useReview();
  const facts = [
    `${image.w} × ${image.h}`,
    many(image.tags.length, "tag"),
    many(image.tokens, "token"),
    ...(image.repeats === null ? [] : [`${image.concept} × ${image.repeats}`]),
  ];
  return (
    <div className="facts">
      <h2 title={image.folder ? `${image.folder}/${image.name}` : image.name}>{image.name}</h2>
      <p className="quiet small">
        {facts.map((fact) => (
          <span key={fact}>{fact}</span>
        ))}
        {image.edited ? <span className="badge">edited</span> : null}
        {image.group.length > 1 ? (
          <button
            type="button"
            className="badge link"
            onClick={() => void review.findGroups(image.id)}
          >
            {many(image.group.length - 1, "near-duplicate")}
          </button>
        ) : null}
      </p>
    </div>
  );
}

function Caption({ id, image }: { readonly id: number; readonly image: Image | null }) {
  const review = useReview();
  const editing = useReviewState((state) => state.editing);
  const difference = useReviewState((state) => state.difference);
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const names = useMemo(() => image?.tags.map((tag) => tag.tag) ?? [], [image]);
  const leave = () => {
    review.store.set({ editing: null });
    document.getElementById("images")?.focus();
  };
  const add = (tags: readonly string[]) => {
    leave();
    void review.addTags(id, tags);
  };
  const save = (text: string, hash: string) => {
    leave();
    void review.saveCaption(id, hash, parseTags(text));
  };
  return (
    <>
      {editing === "tag" ? <AddTag key={id} names={names} add={add} leave={leave} /> : null}
      {editing === "text" ? (
        <EditText key={id} image={image} save={save} leave={leave} />
      ) : image === null ? null : difference ? (
        <Difference image={image} names={names} />
      ) : (
        <TagRows
          image={id}
          tags={image.tags}
          remove={(tag) => void review.removeFrom(id, tag)}
          readOnly={readOnly}
        />
      )}
      {editing === null && !difference && image?.near.length ? (
        <Near near={image.near} add={(tag) => void review.addTags(id, [tag])} readOnly={readOnly} />
      ) : null}
      <div className="panel-actions" role="group" aria-label="Caption">
        {readOnly ? null : (
          <>
            <button
              type="button"
              aria-pressed={editing === "tag"}
              onClick={() => review.store.set({ editing: editing === "tag" ? null : "tag" })}
            >
              Add <kbd>a</kbd>
            </button>
            <button
              type="button"
              aria-pressed={editing === "text"}
              onClick={() => review.store.set({ editing: editing === "text" ? null : "text" })}
            >
              Edit <kbd>e</kbd>
            </button>
            <button type="button" onClick={() => void review.exclude()}>
              Exclude <kbd>x</kbd>
            </button>
          </>
        )}
        <button
          type="button"
          aria-pressed={difference}
          onClick={() => review.store.set({ difference: !difference })}
        >
          Difference <kbd>d</kbd>
        </button>
      </div>
    </>
  );
}

interface AddTagProps {
  readonly names: readonly string[];
  readonly add: (tags: readonly string[]) => void;
  readonly leave: () => void;
}

function AddTag({ names, add, leave }: AddTagProps) {
  const [typed, type] = useState("");
  const has = new Set(names.map(folded));
  const fresh = parseTags(typed).filter((tag) => !has.has(folded(tag)));
  const twice = parseTags(typed).length > 0 && fresh.length === 0;
  return (
    <div className="add-tag">
      <Suggest
        label="Add a tag to this image"
        placeholder="add a tag"
        value={typed}
        change={type}
        done={() => (fresh.length ? add(fresh) : leave())}
        leave={leave}
      />
      {twice ? <p className="quiet small">The caption has it already.</p> : null}
    </div>
  );
}

interface EditTextProps {
  readonly image: Image | null;
  readonly save: (text: string, hash: string) => void;
  readonly leave: () => void;
}

function EditText({ image, save: write, leave }: EditTextProps) {
  // The caption that is edited. One that comes in later takes its place only while nothing was typed.
  const [opened, open] = useState(image);
  const [typed, type] = useState(opened?.caption ?? "");
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (
      image === null ||
      image.hash === opened?.hash ||
      (opened !== null && typed !== (opened.caption ?? ""))
    )
      return;
    open(image);
    type(image.caption ?? "");
  }, [opened, image, typed]);
  useEffect(() => {
    const end = field.current?.value.length ?? 0;
    field.current?.focus();
    field.current?.setSelectionRange(end, end);
  }, [opened]);
  const save = () => {
    if (opened) write(typed, opened.hash);
  };
  const press = (event: KeyboardEvent) => {
    if (event.key === "Escape") leave();
    else if (event.key === "Enter") save();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div className="edit-text">
      <textarea
        ref={field}
        rows={9}
        aria-label="Caption as text"
        spellCheck={false}
        readOnly={opened === null}
        value={typed}
        onChange={(event) => type(event.target.value)}
        onKeyDown={press}
      />
      <p className="buttons">
        <button type="button" className="main" onClick={save}>
          Save <kbd>Enter</kbd>
        </button>
        <button type="button" className="plain" onClick={leave}>
          Leave <kbd>Esc</kbd>
        </button>
      </p>
    </div>
  );
}

interface TagRowsProps {
  readonly image: number;
  readonly tags: readonly ScoredTag[];
  readonly remove: (tag: string) => void;
  readonly readOnly: boolean;
}

function TagRows({ image, tags, remove, readOnly }: TagRowsProps) {
  const [cursor, setCursor] = useState(0);
  const at = Math.min(cursor, tags.length - 1);
  // The list stays as it is, with its focus, when another image comes into it.
  useEffect(() => setCursor(0), [image]);
  useEffect(() => {
    document.getElementById(`own-${at}`)?.scrollIntoView({ block: "nearest" });
  }, [at]);
  const press = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowRight")
      setCursor(Math.min(at + 1, tags.length - 1));
    else if (event.key === "ArrowUp" || event.key === "ArrowLeft") setCursor(Math.max(0, at - 1));
    else if ((event.key === "Delete" || event.key === "Backspace") && !readOnly)
      remove(tags[at]?.tag ?? "");
    else if (event.key === "Escape") document.getElementById("images")?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div
      id="own-tags"
      className="own-tags"
      role="listbox"
      aria-label="Tags of this image"
      tabIndex={0}
      aria-activedescendant={tags.length ? `own-${at}` : undefined}
      onKeyDown={press}
    >
      {tags.length === 0 ? (
        <p className="quiet none" role="option" aria-selected="false">
          No caption yet.
        </p>
      ) : null}
      {tags.map((tag, place) => (
        <div
          key={`${place} ${tag.tag}`}
          id={`own-${place}`}
          role="option"
          aria-selected={place === at}
          className={place === at ? "own-tag active" : "own-tag"}
          onClick={() => setCursor(place)}
        >
          <span className={`kind ${tag.category ?? ""}`}>{tag.tag}</span>
          <span className="translation">{tag.translation ?? ""}</span>
          <span className="number quiet">{tag.score === null ? "" : tag.score.toFixed(2)}</span>
          {readOnly ? null : (
            // The keyboard has Del; a button inside an option would be lost to screen readers.
            <span
              className="remove"
              aria-hidden="true"
              title="Remove from this image (Del)"
              onClick={(event) => {
                event.stopPropagation();
                remove(tag.tag);
              }}
            >
              ×
            </span>
          )}
        </div>
      ))}
    </div>
  );
}

interface NearProps {
  readonly near: readonly ScoredTag[];
  readonly add: (tag: string) => void;
  readonly readOnly: boolean;
}

function Near({ near, add, readOnly }: NearProps) {
  return (
    <section className="near" aria-label="Tags that the tagger saw, and that the caption lacks">
      <h3>Seen, not in the caption</h3>
      <p>
        {near.slice(0, 12).map((tag) => (
          <button
            key={tag.tag}
            type="button"
            disabled={readOnly}
            title={`Add ${tag.tag}`}
            onClick={() => add(tag.tag)}
          >
            {tag.tag} <span className="quiet">{tag.score?.toFixed(2) ?? ""}</span>
          </button>
        ))}
      </p>
    </section>
  );
}

function Difference({
  image,
  names,
}: {
  readonly image: Image;
  readonly names: readonly string[];
}) {
  if (!image.tagger)
    return (
      <p className="own-tags quiet none">
        The tagger has no scores of this image, so there is nothing to compare.
      </p>
    );
  const pieces = diffTags(parseTags(image.tagger.caption), names);
  const same = pieces.every((piece) => piece.change === "same");
  return (
    <div
      className="own-tags difference"
      tabIndex={0}
      role="group"
      aria-label="The caption beside the tagger's"
    >
      <p className="small quiet">
        {same
          ? "As the tagger would write it."
          : "Against what the tagger would write: added, removed."}
      </p>
      <p className="pieces">
        {pieces.map((piece, at) =>
          piece.change === "added" ? (
            <ins key={at}>{piece.tag}</ins>
          ) : piece.change === "removed" ? (
            <del key={at}>{piece.tag}</del>
          ) : (
            <span key={at}>{piece.tag}</span>
          ),
        )}
      </p>
    </div>
  );
}
