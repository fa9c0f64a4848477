/** A text field for tags with suggestions: Tab accepts one, Enter submits what was typed. */

import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import type { Completions } from "../api";
import { number, t } from "../i18n";
import { useReview } from "./context";

const MAX_SUGGESTIONS = 8;

interface Props {
  readonly label: string;
  readonly value: string;
  readonly placeholder?: string;
  readonly onChange: (value: string) => void;
  readonly onSubmit: (value: string) => void;
  readonly onCancel: () => void;
  readonly after?: ReactNode;
}

/** Completions, and the word they were requested for. */
interface Offer {
  readonly word: string;
  readonly completions: Completions;
}

const plain = (text: string) => text.toLowerCase().replaceAll("_", " ");

/** The completions that also match a word that was typed since. */
function narrow(completions: Completions, word: string): Completions {
  const rows = completions.tag.flatMap((tag, row) =>
    plain(tag).includes(plain(word)) ? [row] : [],
  );
  const pick = <T,>(column: readonly T[]) => rows.map((row) => column[row] as T);
  return {
    ...completions,
    tag: pick(completions.tag),
    category: pick(completions.category),
    translation: pick(completions.translation),
    count: pick(completions.count),
  };
}

export function TagInput(props: Props) {
  const { label, value, placeholder = "", onChange, onSubmit, onCancel, after } = props;
  const review = useReview();
  const [offer, setOffer] = useState<Offer | null>(null);
  const [marked, setMarked] = useState(0);
  const field = useRef<HTMLInputElement>(null);
  const accepted = useRef("");
  const id = useId();
  // Of several tags only the last one is completed.
  const word = value.slice(value.lastIndexOf(",") + 1).trim();

  useEffect(() => field.current?.focus(), []);
  useEffect(() => {
    setMarked(0);
    if (word === "" || word === accepted.current) {
      setOffer(null);
      return;
    }
    const request = new AbortController();
    review.api.complete(word, MAX_SUGGESTIONS, request.signal).then(
      (completions) => setOffer({ word, completions }),
      () => undefined,
    );
    return () => request.abort();
  }, [review, word]);

  // Until the response for the last letter arrives, show the previous suggestions that still match:
  // Tab accepts what is on the screen.
  const matching =
    offer && (offer.word === word ? offer.completions : narrow(offer.completions, word));
  const shown = matching && matching.tag.length > 0 ? matching : null;
  const accept = (row: number) => {
    const tag = shown?.tag[row];
    if (tag === undefined) return;
    const before = value.slice(0, value.lastIndexOf(",") + 1);
    accepted.current = tag;
    setOffer(null);
    onChange(before === "" ? tag : `${before} ${tag}`);
    field.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const { key } = event;
    const count = shown?.tag.length ?? 0;
    if (key === "Tab" && shown && !event.shiftKey) accept(marked);
    else if (key === "ArrowDown" && shown) setMarked((marked + 1) % count);
    else if (key === "ArrowUp" && shown) setMarked((marked + count - 1) % count);
    else if (key === "Enter") onSubmit(value);
    else if (key === "Escape") onCancel();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div className="tag-input">
      <input
        ref={field}
        type="text"
        role="combobox"
        aria-label={label}
        aria-expanded={shown !== null}
        aria-controls={shown ? `${id}-suggestions` : undefined}
        aria-activedescendant={shown ? `${id}-${marked}` : undefined}
        aria-autocomplete="list"
        autoComplete="off"
        spellCheck={false}
        placeholder={placeholder}
        value={value}
        onChange={(event) => onChange(event.target.value)}
        onKeyDown={onKeyDown}
      />
      {after}
      {shown ? (
        <ul
          id={`${id}-suggestions`}
          className="suggestions"
          role="listbox"
          aria-label={t("captions.list.suggestions")}
        >
          {shown.tag.map((tag, row) => (
            <li
              key={tag}
              id={`${id}-${row}`}
              role="option"
              aria-selected={row === marked}
              className={row === marked ? "active" : ""}
              onMouseDown={(event) => {
                event.preventDefault();
                accept(row);
              }}
            >
              <span className={`category ${shown.category[row] ?? ""}`}>{tag}</span>
              <span className="translation">{shown.translation[row] ?? ""}</span>
              <span className="number muted">
                {shown.count[row] ? number(shown.count[row]) : ""}
              </span>
              {row === marked ? <kbd>Tab</kbd> : null}
            </li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}
