/** The edits that ask for a word first: replace, add, trigger, scores. Each counts before it does anything. */

import { type FormEvent, useEffect, useState } from "react";
import type { Applied, Operation } from "../api";
import { Refused } from "../api";
import { parseTags } from "../captions";
import { many, type Review } from "../review";
import { useReview, useReviewState } from "./context";
import { Suggest } from "./Suggest";

/** Milliseconds between the last move of a slider, or the last letter, and the count. */
const PAUSE = 80;

export function Bars() {
  const bar = useReviewState((state) => state.bar);
  if (bar === "replace") return <ReplaceBar />;
  if (bar === "add") return <AddBar />;
  if (bar === "trigger") return <TriggerBar />;
  return bar === "scores" ? <ScoresBar /> : null;
}

type Counted = { readonly applied: Applied } | { readonly refused: string } | null;

/** What an operation would do to the scope, without doing it. */
function useDryRun(operation: Operation | null): Counted {
  const review = useReview();
  const scope = useReviewState((state) => state.scope);
  const version = useReviewState((state) => state.version);
  const [counted, setCounted] = useState<Counted>(null);
  const asked = JSON.stringify(operation);
  useEffect(() => {
    setCounted(null);
    if (asked === "null") return;
    const asking = new AbortController();
    const timer = setTimeout(() => {
      review.api
        .dryRun(version, review.scopeOf(), JSON.parse(asked) as Operation, asking.signal)
        .then(
          (applied) => setCounted({ applied }),
          (error: unknown) => {
            if (error instanceof Refused) setCounted({ refused: error.message });
          },
        );
    }, PAUSE);
    return () => {
      clearTimeout(timer);
      asking.abort();
    };
  }, [review, asked, scope, version]);
  return counted;
}

function Count({ counted }: { readonly counted: Counted }) {
  if (counted === null) return <span className="would quiet" />;
  if ("refused" in counted)
    return (
      <span className="would bad" role="status">
        {counted.refused}
      </span>
    );
  const { changed, kept, why } = counted.applied;
  return (
    <span className="would" role="status" title={why}>
      <b>{many(changed, "caption")}</b> would change
      {kept ? <span className="quiet">, {kept.toLocaleString("en")} left alone</span> : null}
    </span>
  );
}

function close(review: Review): void {
  review.open(null);
  document.getElementById(review.store.get().tag === null ? "images" : "tags")?.focus();
}

/** Do it and close; what was refused stays open with its reason. */
function useDo(): (operation: Operation | null) => void {
  const review = useReview();
  return (operation) => {
    if (operation === null) return;
    close(review);
    void review.apply(operation);
  };
}

function Buttons({ says }: { readonly says: string }) {
  const review = useReview();
  return (
    <>
      <button type="submit" className="main">
        {says} <kbd>Enter</kbd>
      </button>
      <button type="button" className="plain" onClick={() => close(review)}>
        Leave <kbd>Esc</kbd>
      </button>
    </>
  );
}

function submit(act: () => void): (event: FormEvent) => void {
  return (event) => {
    event.preventDefault();
    act();
  };
}

function ReplaceBar() {
  const review = useReview();
  const tag = useReviewState((state) => state.tag);
  const [by, setBy] = useState("");
  const word = parseTags(by)[0];
  const operation: Operation | null =
    tag !== null && word !== undefined ? { replace: [[tag, word]] } : null;
  const counted = useDryRun(operation);
  const perform = useDo();
  if (tag === null) return null;
  return (
    <form className="bar" aria-label="Replace a tag" onSubmit={submit(() => perform(operation))}>
      <span>
        Replace <b className="tag">{tag}</b> by
      </span>
      <Suggest
        label={`Replace ${tag} by`}
        value={by}
        placeholder="another tag; one that is there already merges"
        change={setBy}
        done={() => perform(operation)}
        leave={() => close(review)}
      />
      <Count counted={counted} />
      <Buttons says="Replace" />
    </form>
  );
}

function AddBar() {
  const review = useReview();
  const [typed, type] = useState("");
  const tags = parseTags(typed);
  const operation: Operation | null = tags.length ? { add: tags } : null;
  const counted = useDryRun(operation);
  const perform = useDo();
  return (
    <form className="bar" aria-label="Add tags" onSubmit={submit(() => perform(operation))}>
      <span>Add to every image in scope</span>
      <Suggest
        label="Add to every image in scope"
        value={typed}
        placeholder="a tag, or several with commas"
        change={type}
        done={() => perform(operation)}
        leave={() => close(review)}
      />
      <Count counted={counted} />
      <Buttons says="Add" />
    </form>
  );
}

function TriggerBar() {
  const review = useReview();
  const known = useReviewState((state) => state.session?.trigger.join(", ") ?? "");
  const [typed, type] = useState(known);
  const tags = parseTags(typed);
  const operation: Operation | null = tags.length ? { trigger: tags } : null;
  const counted = useDryRun(operation);
  const perform = useDo();
  return (
    <form className="bar" aria-label="Trigger" onSubmit={submit(() => perform(operation))}>
      <span>Begin every caption in scope with</span>
      <Suggest
        label="Trigger"
        value={typed}
        placeholder="the word that will call the concept"
        change={type}
        done={() => perform(operation)}
        leave={() => close(review)}
      />
      <Count counted={counted} />
      <Buttons says="Put first" />
    </form>
  );
}

function ScoresBar() {
  const review = useReview();
  const session = useReviewState((state) => state.session);
  const [threshold, setThreshold] = useState(session?.threshold ?? 0.35);
  const [people, setPeople] = useState(false);
  const operation: Operation | null = session?.scores
    ? {
        threshold,
        character_threshold: session.character_threshold,
        existing: people ? "overwrite" : "skip",
      }
    : null;
  const counted = useDryRun(operation);
  const perform = useDo();
  if (!operation) {
    return (
      <form
        className="bar"
        aria-label="Scores"
        onSubmit={submit(() => close(review))}
        onKeyDown={(event) => event.key === "Escape" && close(review)}
      >
        <span>There are no scores to cut: dsk tag looks at the images once and stores them.</span>
        <button type="submit" className="main" autoFocus>
          OK
        </button>
      </form>
    );
  }
  const applied = counted && "applied" in counted ? counted.applied : null;
  return (
    <form
      className="bar"
      aria-label="Scores"
      onSubmit={submit(() => perform(operation))}
      onKeyDown={(event) => event.key === "Escape" && close(review)}
    >
      <label htmlFor="threshold">
        Keep tags with a score of <b className="figure">{threshold.toFixed(2)}</b>
      </label>
      <input
        id="threshold"
        type="range"
        min={0.05}
        max={0.95}
        step={0.01}
        value={threshold}
        autoFocus
        onChange={(event) => setThreshold(Number(event.target.value))}
        onKeyDown={(event) => event.key === "Enter" && submit(() => perform(operation))(event)}
      />
      <label className="check">
        <input
          type="checkbox"
          checked={people}
          onChange={(event) => setPeople(event.target.checked)}
        />
        also captions that people edited
      </label>
      <Count counted={counted} />
      {applied ? (
        <span className="would">
          <span className="added">+{applied.added.toLocaleString("en")}</span>{" "}
          <span className="removed">−{applied.removed.toLocaleString("en")}</span>
          <span className="quiet"> tags</span>
        </span>
      ) : null}
      <Buttons says="Cut" />
    </form>
  );
}
