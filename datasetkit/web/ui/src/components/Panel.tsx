/** The panel beside the images: the image under the cursor, and its caption to edit. */

import { type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import { type Image, preview, type ScoredTag } from "../api";
import { diffTags, normalizeTag, parseTags } from "../captions";
import { t } from "../i18n";
import { useReview, useReviewState } from "./context";
import { TagInput } from "./TagInput";
import { TriggerChip } from "./TriggerChip";

export function Panel({ withImage }: { readonly withImage: boolean }) {
  const loaded = useReviewState((state) => state.image);
  const currentId = useReviewState((state) => state.listing?.at(state.cursor)?.id ?? null);
  const editing = useReviewState((state) => state.editing);
  // The previous image stays until the next one is loaded. But an edit is always of the image under
  // the cursor, loaded or not.
  const image = editing === null || loaded?.id === currentId ? loaded : null;
  const id = image?.id ?? currentId;
  return (
    <aside className="panel" aria-label={t("captions.panel")}>
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
    t("captions.n.tag", { n: image.tags.length }),
    ...(image.sentences.length ? [t("captions.n.sentence", { n: image.sentences.length })] : []),
    t("captions.n.token", { n: image.tokens }),
    ...(image.repeats === null ? [] : [`${image.concept} × ${image.repeats}`]),
  ];
  const nearDuplicates = image.near_duplicates.length - 1;
  return (
    <div className="facts">
      <h2 title={image.folder ? `${image.folder}/${image.name}` : image.name}>{image.name}</h2>
      <p className="muted small">
        {facts.map((fact) => (
          <span key={fact}>{fact}</span>
        ))}
        {image.edited ? <span className="badge">{t("captions.edited")}</span> : null}
        {nearDuplicates > 0 ? (
          <button
            type="button"
            className="badge link"
            onClick={() => void review.showNearDuplicates(image.id)}
          >
            {t("captions.n.nearDuplicate", { n: nearDuplicates })}
          </button>
        ) : null}
      </p>
    </div>
  );
}

interface CaptionProps {
  readonly id: number;
  /** Null until it is loaded. */
  readonly image: Image | null;
}

function Caption({ id, image }: CaptionProps) {
  const review = useReview();
  const editing = useReviewState((state) => state.editing);
  const comparing = useReviewState((state) => state.comparing);
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const names = useMemo(() => image?.tags.map((tag) => tag.tag) ?? [], [image]);
  const stopEditing = () => {
    review.store.set({ editing: null });
    document.getElementById("images")?.focus();
  };
  const add = (tags: readonly string[]) => {
    stopEditing();
    void review.addTags(id, tags);
  };
  const save = (text: string, hash: string) => {
    stopEditing();
    void review.saveCaption(id, hash, text);
  };
  return (
    <>
      {image ? <TriggerChip words={image.trigger} /> : null}
      {editing === "tag" ? <AddTag key={id} names={names} add={add} cancel={stopEditing} /> : null}
      {editing === "text" ? (
        <EditText key={id} image={image} save={save} cancel={stopEditing} />
      ) : image === null ? null : comparing ? (
        <Comparison image={image} names={names} />
      ) : (
        <ImageTags
          image={id}
          tags={image.tags}
          sentences={image.sentences}
          remove={(tag) => void review.removeTagFromImage(id, tag)}
          readOnly={readOnly}
        />
      )}
      {editing === null && !comparing && image?.other_tags.length ? (
        <OtherTags
          tags={image.other_tags}
          add={(tag) => void review.addTags(id, [tag])}
          readOnly={readOnly}
        />
      ) : null}
      <CaptionActions />
    </>
  );
}

function CaptionActions() {
  const review = useReview();
  const editing = useReviewState((state) => state.editing);
  const comparing = useReviewState((state) => state.comparing);
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const toggle = (what: "tag" | "text") =>
    review.store.set({ editing: editing === what ? null : what });
  return (
    <div className="panel-actions" role="group" aria-label={t("captions.this")}>
      {readOnly ? null : (
        <>
          <button type="button" aria-pressed={editing === "tag"} onClick={() => toggle("tag")}>
            {t("captions.this.add")} <kbd>a</kbd>
          </button>
          <button type="button" aria-pressed={editing === "text"} onClick={() => toggle("text")}>
            {t("captions.this.text")} <kbd>e</kbd>
          </button>
          <button type="button" onClick={() => void review.exclude()}>
            {t("captions.this.exclude")} <kbd>x</kbd>
          </button>
        </>
      )}
      <button
        type="button"
        aria-pressed={comparing}
        onClick={() => review.store.set({ comparing: !comparing })}
      >
        {t("captions.this.compare")} <kbd>d</kbd>
      </button>
    </div>
  );
}

interface AddTagProps {
  readonly names: readonly string[];
  readonly add: (tags: readonly string[]) => void;
  readonly cancel: () => void;
}

function AddTag({ names, add, cancel }: AddTagProps) {
  const [typed, setTyped] = useState("");
  const tags = parseTags(typed);
  const existing = new Set(names.map(normalizeTag));
  const newTags = tags.filter((tag) => !existing.has(normalizeTag(tag)));
  return (
    <div className="add-tag">
      <TagInput
        label={t("captions.tag.add.label")}
        placeholder={t("captions.tag.add.hint")}
        value={typed}
        onChange={setTyped}
        onSubmit={() => (newTags.length ? add(newTags) : cancel())}
        onCancel={cancel}
      />
      {tags.length > 0 && newTags.length === 0 ? (
        <p className="muted small">{t("captions.tag.add.there")}</p>
      ) : null}
    </div>
  );
}

interface EditTextProps {
  readonly image: Image | null;
  readonly save: (text: string, hash: string) => void;
  readonly cancel: () => void;
}

function EditText({ image, save, cancel }: EditTextProps) {
  // The caption that is being edited. A newer one replaces it only while nothing was typed.
  const [original, setOriginal] = useState(image);
  const [typed, setTyped] = useState(original?.caption ?? "");
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    if (image === null || image.hash === original?.hash) return;
    if (original !== null && typed !== (original.caption ?? "")) return;
    setOriginal(image);
    setTyped(image.caption ?? "");
  }, [original, image, typed]);
  useEffect(() => {
    const end = field.current?.value.length ?? 0;
    field.current?.focus();
    field.current?.setSelectionRange(end, end);
  }, [original]);
  const submit = () => {
    if (original) save(typed, original.hash);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Escape") cancel();
    else if (event.key === "Enter" && !event.shiftKey) submit();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div className="edit-text">
      <textarea
        ref={field}
        rows={9}
        aria-label={t("captions.this.asText")}
        spellCheck={false}
        readOnly={original === null}
        value={typed}
        onChange={(event) => setTyped(event.target.value)}
        onKeyDown={onKeyDown}
      />
      <p className="buttons">
        <button type="button" className="primary" onClick={submit}>
          {t("captions.save")} <kbd>Enter</kbd>
        </button>
        <button type="button" className="plain" onClick={cancel}>
          {t("cancel")} <kbd>Esc</kbd>
        </button>
      </p>
    </div>
  );
}

interface ImageTagsProps {
  readonly image: number;
  readonly tags: readonly ScoredTag[];
  readonly sentences: readonly string[];
  readonly remove: (tag: string) => void;
  readonly readOnly: boolean;
}

function ImageTags({ image, tags, sentences, remove, readOnly }: ImageTagsProps) {
  const [cursor, setCursor] = useState(0);
  const active = Math.min(cursor, tags.length - 1);
  // The same list shows the next image, so that it keeps the focus.
  useEffect(() => setCursor(0), [image]);
  useEffect(() => {
    document.getElementById(`image-tag-${active}`)?.scrollIntoView({ block: "nearest" });
  }, [active]);
  const onKeyDown = (event: KeyboardEvent) => {
    const { key } = event;
    if (key === "ArrowDown" || key === "ArrowRight") {
      setCursor(Math.min(active + 1, tags.length - 1));
    } else if (key === "ArrowUp" || key === "ArrowLeft") {
      setCursor(Math.max(0, active - 1));
    } else if ((key === "Delete" || key === "Backspace") && !readOnly) {
      remove(tags[active]?.tag ?? "");
    } else if (key === "Escape") {
      document.getElementById("images")?.focus();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  };
  const list = (
    <div
      id="image-tags"
      className="image-tags"
      role="listbox"
      aria-label={t("captions.this.tags")}
      tabIndex={0}
      aria-activedescendant={tags.length ? `image-tag-${active}` : undefined}
      onKeyDown={onKeyDown}
    >
      {tags.length === 0 ? (
        <p className="muted no-tags" role="option" aria-selected="false">
          {t(sentences.length ? "captions.this.noTags" : "captions.this.noCaption")}
        </p>
      ) : null}
      {tags.map((tag, row) => (
        <div
          key={`${row} ${tag.tag}`}
          id={`image-tag-${row}`}
          role="option"
          aria-selected={row === active}
          className={row === active ? "image-tag active" : "image-tag"}
          onClick={() => setCursor(row)}
        >
          <span className="name">
            <span className={`category ${tag.category ?? ""}`}>{tag.tag}</span>
            {tag.translation ? <span className="translation">{tag.translation}</span> : null}
          </span>
          <span className="number muted">{tag.score === null ? "" : tag.score.toFixed(2)}</span>
          {readOnly ? null : (
            // Not a button: screen readers do not announce one inside an option. The key is Del.
            <span
              className="remove"
              aria-hidden="true"
              title={t("captions.this.remove")}
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
  return (
    <>
      {list}
      {sentences.length ? (
        <section className="sentences" aria-label={t("captions.this.sentences")} tabIndex={0}>
          {sentences.map((sentence, row) => (
            <p key={row}>{sentence}</p>
          ))}
        </section>
      ) : null}
    </>
  );
}

interface OtherTagsProps {
  readonly tags: readonly ScoredTag[];
  readonly add: (tag: string) => void;
  readonly readOnly: boolean;
}

function OtherTags({ tags, add, readOnly }: OtherTagsProps) {
  return (
    <section className="other-tags" aria-label={t("captions.other.label")}>
      <h3>{t("captions.other")}</h3>
      <p>
        {tags.slice(0, 12).map((tag) => (
          <button
            key={tag.tag}
            type="button"
            disabled={readOnly}
            title={t("captions.other.add", { tag: tag.tag })}
            onClick={() => add(tag.tag)}
          >
            {tag.tag} <span className="muted">{tag.score?.toFixed(2) ?? ""}</span>
          </button>
        ))}
      </p>
    </section>
  );
}

interface ComparisonProps {
  readonly image: Image;
  readonly names: readonly string[];
}

function Comparison({ image, names }: ComparisonProps) {
  if (!image.tagger) {
    return <p className="image-tags muted no-tags">{t("captions.compare.none")}</p>;
  }
  const entries = diffTags(parseTags(image.tagger.caption), names);
  const same = entries.every((entry) => entry.change === "same");
  return (
    <div
      className="image-tags difference"
      tabIndex={0}
      role="group"
      aria-label={t("captions.compare.label")}
    >
      <p className="small muted">
        {t(same ? "captions.compare.same" : "captions.compare.differs")}
      </p>
      <p className="diff">
        {entries.map(({ tag, change }, row) =>
          change === "added" ? (
            <ins key={row}>{tag}</ins>
          ) : change === "removed" ? (
            <del key={row}>{tag}</del>
          ) : (
            <span key={row}>{tag}</span>
          ),
        )}
      </p>
    </div>
  );
}
