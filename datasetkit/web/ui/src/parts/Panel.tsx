/** The picture under the cursor and its caption: each tag with its score and meaning, to remove, add or rewrite. */

import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import { type Picture, preview, type ScoredTag } from "../api";
import { diffTags, folded, parseTags } from "../captions";
import { many } from "../review";
import { useReview, useReviewState } from "./context";
import { Suggest } from "./Suggest";

export function Panel({ withPicture }: { readonly withPicture: boolean }) {
  const picture = useReviewState((state) => state.picture);
  if (!picture) return <aside className="panel" aria-label="Caption" />;
  return (
    <aside className="panel" aria-label="Caption">
      {withPicture ? (
        <div className="panel-picture">
          <img key={picture.id} src={preview(picture.id, picture.v)} alt={picture.name} decoding="async" />
        </div>
      ) : null}
      <Facts picture={picture} />
      <Caption key={picture.id} picture={picture} />
    </aside>
  );
}

function Facts({ picture }: { readonly picture: Picture }) {
  const review = useReview();
  const facts = [
    `${picture.w} × ${picture.h}`,
    many(picture.tags.length, "tag"),
    many(picture.tokens, "token"),
    picture.concept ? `${picture.concept} × ${picture.repeats}` : "",
  ].filter((fact) => fact !== "");
  return (
    <div className="facts">
      <h2 title={picture.folder ? `${picture.folder}/${picture.name}` : picture.name}>{picture.name}</h2>
      <p className="quiet small">
        {facts.map((fact) => (
          <span key={fact}>{fact}</span>
        ))}
        {picture.edited ? <span className="badge">edited</span> : null}
        {picture.group.length > 1 ? (
          <button type="button" className="badge link" onClick={() => void review.findGroups(picture.id)}>
            {many(picture.group.length - 1, "near-duplicate")}
          </button>
        ) : null}
      </p>
    </div>
  );
}

function Caption({ picture }: { readonly picture: Picture }) {
  const review = useReview();
  const editing = useReviewState((state) => state.editing);
  const difference = useReviewState((state) => state.difference);
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const names = useMemo(() => picture.tags.map((tag) => tag.tag), [picture]);
  const save = (tags: readonly string[]) => {
    leave();
    void review.saveCaption(picture.id, picture.hash, tags);
  };
  const leave = () => {
    review.store.set({ editing: null });
    document.getElementById("pictures")?.focus();
  };
  return (
    <>
      {editing === "tag" ? <AddTag names={names} save={save} leave={leave} /> : null}
      {editing === "text" ? (
        <EditText text={picture.caption ?? ""} save={(text) => save(parseTags(text))} leave={leave} />
      ) : difference ? (
        <Difference picture={picture} names={names} />
      ) : (
        <TagRows tags={picture.tags} remove={(at) => save(names.filter((_, place) => place !== at))} readOnly={readOnly} />
      )}
      {editing === null && !difference && picture.near.length ? (
        <Near near={picture.near} add={(tag) => save([...names, tag])} readOnly={readOnly} />
      ) : null}
      <div className="panel-actions" role="group" aria-label="Caption">
        {readOnly ? null : (
          <>
            <button type="button" aria-pressed={editing === "tag"} onClick={() => review.store.set({ editing: editing === "tag" ? null : "tag" })}>
              Add <kbd>a</kbd>
            </button>
            <button type="button" aria-pressed={editing === "text"} onClick={() => review.store.set({ editing: editing === "text" ? null : "text" })}>
              Edit <kbd>e</kbd>
            </button>
            <button type="button" onClick={() => void review.exclude()}>
              Exclude <kbd>x</kbd>
            </button>
          </>
        )}
        <button type="button" aria-pressed={difference} onClick={() => review.store.set({ difference: !difference })}>
          Difference <kbd>d</kbd>
        </button>
      </div>
    </>
  );
}

interface AddTagProps {
  readonly names: readonly string[];
  readonly save: (tags: readonly string[]) => void;
  readonly leave: () => void;
}

function AddTag({ names, save, leave }: AddTagProps) {
  const [typed, type] = useState("");
  const has = new Set(names.map(folded));
  const fresh = parseTags(typed).filter((tag) => !has.has(folded(tag)));
  const twice = parseTags(typed).length > 0 && fresh.length === 0;
  return (
    <div className="add-tag">
      <Suggest
        label="Add a tag to this picture"
        placeholder="add a tag"
        value={typed}
        change={type}
        done={() => (fresh.length ? save([...names, ...fresh]) : leave())}
        leave={leave}
      />
      {twice ? <p className="quiet small">The caption has it already.</p> : null}
    </div>
  );
}

interface EditTextProps {
  readonly text: string;
  readonly save: (text: string) => void;
  readonly leave: () => void;
}

function EditText({ text, save, leave }: EditTextProps) {
  const [typed, type] = useState(text);
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, [text]);
  const press = (event: KeyboardEvent) => {
    if (event.key === "Escape") leave();
    else if (event.key === "Enter") save(typed);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div className="edit-text">
      <textarea ref={field} rows={9} aria-label="Caption as text" spellCheck={false} value={typed} onChange={(event) => type(event.target.value)} onKeyDown={press} />
      <p className="buttons">
        <button type="button" className="main" onClick={() => save(typed)}>
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
  readonly tags: readonly ScoredTag[];
  readonly remove: (at: number) => void;
  readonly readOnly: boolean;
}

function TagRows({ tags, remove, readOnly }: TagRowsProps) {
  const [cursor, setCursor] = useState(0);
  const at = Math.min(cursor, tags.length - 1);
  useEffect(() => {
    document.getElementById(`own-${at}`)?.scrollIntoView({ block: "nearest" });
  }, [at]);
  const press = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" || event.key === "ArrowRight") setCursor(Math.min(at + 1, tags.length - 1));
    else if (event.key === "ArrowUp" || event.key === "ArrowLeft") setCursor(Math.max(0, at - 1));
    else if ((event.key === "Delete" || event.key === "Backspace") && at >= 0 && !readOnly) remove(at);
    else if (event.key === "Escape") document.getElementById("pictures")?.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  if (tags.length === 0) return <p className="own-tags quiet none">No caption yet.</p>;
  return (
    <div id="own-tags" className="own-tags" role="listbox" aria-label="Tags of this picture" tabIndex={0} aria-activedescendant={`own-${at}`} onKeyDown={press}>
      {tags.map((tag, place) => (
        <div
          key={tag.tag}
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
              title="Remove from this picture (Del)"
              onClick={(event) => {
                event.stopPropagation();
                remove(place);
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
          <button key={tag.tag} type="button" disabled={readOnly} title={`Add ${tag.tag}`} onClick={() => add(tag.tag)}>
            {tag.tag} <span className="quiet">{tag.score?.toFixed(2) ?? ""}</span>
          </button>
        ))}
      </p>
    </section>
  );
}

function Difference({ picture, names }: { readonly picture: Picture; readonly names: readonly string[] }) {
  if (!picture.tagger) return <p className="own-tags quiet none">The tagger has no scores of this picture, so there is nothing to compare.</p>;
  const pieces = diffTags(parseTags(picture.tagger.caption), names);
  const same = pieces.every((piece) => piece.change === "same");
  return (
    <div className="own-tags difference" tabIndex={0} role="group" aria-label="The caption beside the tagger's">
      <p className="small quiet">{same ? "As the tagger would write it." : "Against what the tagger would write: added, removed."}</p>
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
