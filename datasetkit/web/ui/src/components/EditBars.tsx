/** The bars for edits that need input. Each shows how many captions it would change. */

import { type FormEvent, type ReactNode, useEffect, useState } from "react";
import { ApiError, type EditResult, type Operation } from "../api";
import { parseTags } from "../captions";
import { number, t } from "../i18n";
import { HOLE, Rich } from "../parts/Rich";
import type { Review } from "../review";
import { targetTags } from "../state";
import { useReview, useReviewState } from "./context";
import { TagInput } from "./TagInput";

/** Milliseconds from the last input to the dry run. */
const DRY_RUN_DELAY = 80;

export function EditBars() {
  const editBar = useReviewState((state) => state.editBar);
  if (editBar === "replace") return <ReplaceBar />;
  if (editBar === "add") return <AddBar />;
  if (editBar === "trigger") return <TriggerBar />;
  if (editBar === "meaning") return <MeaningBar />;
  return editBar === "scores" ? <ScoresBar /> : null;
}

type DryRun = { readonly result: EditResult } | { readonly error: string } | null;

/** What an operation would do to the scope. */
export function useDryRun(operation: Operation | null): DryRun {
  const review = useReview();
  const scope = useReviewState((state) => state.scope);
  const version = useReviewState((state) => state.version);
  const selection = useReviewState((state) => state.selection.ids);
  const where = useReviewState((state) => state.listing?.where ?? "");
  const [dryRun, setDryRun] = useState<DryRun>(null);
  // As text: the operation is a new object at each render.
  const json = JSON.stringify(operation);
  useEffect(() => {
    setDryRun(null);
    if (json === "null") return;
    const request = new AbortController();
    const timer = setTimeout(() => {
      const parsed = JSON.parse(json) as Operation;
      review.api.dryRun(version, review.scope, parsed, request.signal).then(
        (result) => setDryRun({ result }),
        (error: unknown) => {
          if (error instanceof ApiError) setDryRun({ error: error.message });
        },
      );
    }, DRY_RUN_DELAY);
    return () => {
      clearTimeout(timer);
      request.abort();
    };
  }, [review, json, scope, selection, where, version]);
  return dryRun;
}

interface DryRunCountProps {
  readonly dryRun: DryRun;
  /** Also count the tags that would be added and removed. */
  readonly withTags?: boolean;
}

function DryRunCount({ dryRun, withTags = false }: DryRunCountProps) {
  if (dryRun === null) return <span className="dry-run muted" />;
  if ("error" in dryRun) {
    return (
      <span className="dry-run error-text" role="status">
        {dryRun.error}
      </span>
    );
  }
  const { changed, kept, reason, tags_added: added, tags_removed: removed } = dryRun.result;
  return (
    <>
      <span className="dry-run" role="status" title={reason}>
        <Rich text={t("captions.dry.change", { what: HOLE })}>
          <b>{t("captions.n.caption", { n: changed })}</b>
        </Rich>
        {kept ? <span className="muted">{t("captions.dry.skipped", { n: kept })}</span> : null}
      </span>
      {withTags && changed ? (
        <span>
          <Rich text={t("captions.dry.tags", { added: HOLE, removed: HOLE })}>
            {[
              <span key="added" className="added">
                +{number(added)}
              </span>,
              <span key="removed" className="removed">
                −{number(removed)}
              </span>,
            ]}
          </Rich>
        </span>
      ) : null}
    </>
  );
}

function close(review: Review): void {
  review.store.set({ editBar: null });
  document.getElementById(review.store.get().tag === null ? "images" : "tags")?.focus();
}

/** Apply an operation to the scope and close the bar. */
function useApply(): (operation: Operation | null) => void {
  const review = useReview();
  return (operation) => {
    if (operation === null) return;
    close(review);
    void review.apply(operation);
  };
}

function Buttons({ submit }: { readonly submit: string }) {
  const review = useReview();
  return (
    <span className="buttons">
      <button type="submit" className="primary">
        {submit} <kbd>Enter</kbd>
      </button>
      <button type="button" className="plain" onClick={() => close(review)}>
        {t("cancel")} <kbd>Esc</kbd>
      </button>
    </span>
  );
}

function onSubmit(act: () => void): (event: FormEvent) => void {
  return (event) => {
    event.preventDefault();
    act();
  };
}

interface TagBarProps {
  /** Accessible name of the form. */
  readonly name: string;
  readonly text: ReactNode;
  /** Accessible name of the field. */
  readonly label: string;
  readonly placeholder: string;
  readonly initial?: string;
  readonly submit: string;
  readonly operation: (tags: readonly string[]) => Operation;
}

/** A bar with one field for tags. */
function TagBar(props: TagBarProps) {
  const review = useReview();
  const [typed, setTyped] = useState(props.initial ?? "");
  const tags = parseTags(typed);
  const operation = tags.length ? props.operation(tags) : null;
  const dryRun = useDryRun(operation);
  const apply = useApply();
  return (
    <form className="edit-bar" aria-label={props.name} onSubmit={onSubmit(() => apply(operation))}>
      <span>{props.text}</span>
      <TagInput
        label={props.label}
        value={typed}
        placeholder={props.placeholder}
        onChange={setTyped}
        onSubmit={() => apply(operation)}
        onCancel={() => close(review)}
      />
      <DryRunCount dryRun={dryRun} />
      <Buttons submit={props.submit} />
    </form>
  );
}

function ReplaceBar() {
  const tag = useReviewState((state) => state.tag);
  const tagSelection = useReviewState((state) => state.tagSelection);
  const targets = targetTags({ tag, tagSelection });
  const [first] = targets;
  if (first === undefined) return null;
  const what = targets.length === 1 ? first : t("captions.n.tag", { n: targets.length });
  return (
    <TagBar
      name={t("captions.bar.replace.name")}
      text={
        <Rich text={t("captions.bar.replace", { what: HOLE })}>
          <b className="tag" title={targets.join(", ")}>
            {what}
          </b>
        </Rich>
      }
      label={t("captions.bar.replace", { what })}
      placeholder={t("captions.bar.replace.hint")}
      submit={t("captions.bar.replace.submit")}
      operation={(tags) => ({ replace: targets.map((old) => [old, tags[0] ?? ""]) })}
    />
  );
}

function AddBar() {
  return (
    <TagBar
      name={t("captions.bar.add.name")}
      text={t("captions.bar.add")}
      label={t("captions.bar.add")}
      placeholder={t("captions.bar.add.hint")}
      submit={t("captions.bar.add.submit")}
      operation={(tags) => ({ add: tags })}
    />
  );
}

function TriggerBar() {
  // Several concepts may have one each: then it is that of the image under the cursor.
  const known = useReviewState((state) => {
    const several = (state.session?.concepts.length ?? 0) > 1;
    const words = several && state.image ? state.image.trigger : state.session?.trigger;
    return words?.join(", ") ?? "";
  });
  return (
    <TagBar
      name={t("captions.edit.trigger")}
      text={t("captions.bar.trigger")}
      label={t("captions.edit.trigger")}
      placeholder={t("captions.bar.trigger.hint")}
      initial={known}
      submit={t("captions.bar.trigger.submit")}
      operation={(tags) => ({ trigger: tags })}
    />
  );
}

/** What the tag under the cursor means; saved to translations.csv of the project. */
function MeaningBar() {
  const review = useReview();
  const tag = useReviewState((state) => state.tag);
  const known = useReviewState((state) =>
    tag === null ? "" : (state.tags?.translation[state.tags.tag.indexOf(tag)] ?? ""),
  );
  const [typed, setTyped] = useState(known);
  if (tag === null) return null;
  const submit = onSubmit(() => {
    close(review);
    if (typed.trim() !== known) void review.translate(tag, typed.trim());
  });
  return (
    <form
      className="edit-bar"
      aria-label={t("captions.bar.meaning.name")}
      onSubmit={submit}
      onKeyDown={(event) => event.key === "Escape" && close(review)}
    >
      <label htmlFor="meaning">
        <Rich text={t("captions.bar.meaning", { tag: HOLE })}>
          <b className="tag">{tag}</b>
        </Rich>
      </label>
      <input
        id="meaning"
        type="text"
        value={typed}
        placeholder={t("captions.bar.meaning.hint")}
        autoComplete="off"
        autoFocus
        onChange={(event) => setTyped(event.target.value)}
      />
      <Buttons submit={t("captions.save")} />
    </form>
  );
}

function ScoresBar() {
  const hasScores = useReviewState((state) => state.session?.scores ?? false);
  return hasScores ? <ThresholdBar /> : <NoScoresBar />;
}

function NoScoresBar() {
  const review = useReview();
  return (
    <form
      className="edit-bar"
      aria-label={t("captions.edit.scores")}
      onSubmit={onSubmit(() => close(review))}
      onKeyDown={(event) => event.key === "Escape" && close(review)}
    >
      <span>{t("captions.bar.scores.none")}</span>
      <button type="submit" className="primary" autoFocus>
        {t("captions.ok")}
      </button>
    </form>
  );
}

function ThresholdBar() {
  const review = useReview();
  const session = useReviewState((state) => state.session);
  const [threshold, setThreshold] = useState(session?.threshold ?? 0.35);
  const [overwrite, setOverwrite] = useState(false);
  const operation: Operation = {
    threshold,
    character_threshold: session?.character_threshold ?? 0.85,
    existing: overwrite ? "overwrite" : "skip",
  };
  const dryRun = useDryRun(operation);
  const apply = useApply();
  const submit = onSubmit(() => apply(operation));
  return (
    <form
      className="edit-bar"
      aria-label={t("captions.edit.scores")}
      onSubmit={submit}
      onKeyDown={(event) => event.key === "Escape" && close(review)}
    >
      <label htmlFor="threshold">
        <Rich text={t("captions.bar.scores.least", { least: HOLE })}>
          <b className="value">{threshold.toFixed(2)}</b>
        </Rich>
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
        onKeyDown={(event) => event.key === "Enter" && submit(event)}
      />
      <label className="checkbox">
        <input
          type="checkbox"
          checked={overwrite}
          onChange={(event) => setOverwrite(event.target.checked)}
        />
        {t("captions.bar.scores.byHand")}
      </label>
      <DryRunCount dryRun={dryRun} withTags />
      <Buttons submit={t("captions.apply")} />
    </form>
  );
}
