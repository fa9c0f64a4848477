/** A field for one tag, with suggestions: Tab takes the one that is marked, Enter keeps what was typed. */

import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import type { Completions } from "../api";
import { useReview } from "./context";

const MOST = 8;

interface Props {
  readonly label: string;
  readonly value: string;
  readonly placeholder?: string;
  readonly change: (value: string) => void;
  /** Enter: what was typed, as it stands. */
  readonly done: (value: string) => void;
  readonly leave: () => void;
  readonly after?: ReactNode;
}

function keep(of: Completions, word: string): Completions {
  const places = of.tag.flatMap((tag, at) => (plain(tag).includes(plain(word)) ? [at] : []));
  const chosen = <T,>(all: readonly T[]) => places.map((at) => all[at] as T);
  return {
    ...of,
    tag: chosen(of.tag),
    category: chosen(of.category),
    translation: chosen(of.translation),
    count: chosen(of.count),
  };
}

const plain = (text: string) => text.toLowerCase().replaceAll("_", " ");

export function Suggest({ label, value, placeholder = "", change, done, leave, after }: Props) {
  const review = useReview();
  const [offers, setOffers] = useState<{ readonly word: string; readonly of: Completions } | null>(
    null,
  );
  const [marked, mark] = useState(0);
  const field = useRef<HTMLInputElement>(null);
  const taken = useRef("");
  const id = useId();
  // Several tags may be typed at once: the last one is completed.
  const word = value.slice(value.lastIndexOf(",") + 1).trim();

  useEffect(() => field.current?.focus(), []);
  useEffect(() => {
    mark(0);
    if (word === "" || word === taken.current) {
      setOffers(null);
      return;
    }
    const asking = new AbortController();
    review.api.complete(word, MOST, asking.signal).then(
      (of) => setOffers({ word, of }),
      () => undefined,
    );
    return () => asking.abort();
  }, [review, word]);

  // Until the answer to the last letter comes, only those of the one before that still fit: Tab takes what is seen.
  const fitting = offers && (offers.word === word ? offers.of : keep(offers.of, word));
  const shown = fitting && fitting.tag.length > 0 ? fitting : null;
  const take = (at: number) => {
    const tag = shown?.tag[at];
    if (tag === undefined) return;
    const before = value.slice(0, value.lastIndexOf(",") + 1);
    taken.current = tag;
    setOffers(null);
    change(before === "" ? tag : `${before} ${tag}`);
    field.current?.focus();
  };
  const press = (event: KeyboardEvent) => {
    if (event.key === "Tab" && shown && !event.shiftKey) take(marked);
    else if (event.key === "ArrowDown" && shown) mark((marked + 1) % shown.tag.length);
    else if (event.key === "ArrowUp" && shown)
      mark((marked + shown.tag.length - 1) % shown.tag.length);
    else if (event.key === "Enter") done(value);
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };

  return (
    <div className="suggest">
      <input
        ref={field}
        type="text"
        role="combobox"
        aria-label={label}
        aria-expanded={shown !== null}
        aria-controls={shown ? `${id}-offers` : undefined}
        aria-activedescendant={shown ? `${id}-${marked}` : undefined}
        aria-autocomplete="list"
        autoComplete="off"
        spellCheck={false}
        placeholder={placeholder}
        value={value}
        onChange={(event) => change(event.target.value)}
        onKeyDown={press}
      />
      {after}
      {shown ? (
        <ul id={`${id}-offers`} className="offers" role="listbox" aria-label="Suggestions">
          {shown.tag.map((tag, at) => (
            <li
              key={tag}
              id={`${id}-${at}`}
              role="option"
              aria-selected={at === marked}
              className={at === marked ? "active" : ""}
              onMouseDown={(event) => {
                event.preventDefault();
                take(at);
              }}
            >
              <span className={`kind ${shown.category[at] ?? ""}`}>{tag}</span>
              <span className="translation">{shown.translation[at] ?? ""}</span>
              <span className="number quiet">
                {shown.count[at] ? shown.count[at].toLocaleString("en") : ""}
              </span>
              {at === marked ? <kbd>Tab</kbd> : null}
            </li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}
