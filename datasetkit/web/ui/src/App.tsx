/** The page: its parts, and what each key does. */

import { useEffect } from "react";
import { flushSync } from "react-dom";
import { type Action, actionOf, takesText } from "./keys";
import { Bars } from "./parts/Bars";
import { ReviewContext, useReview, useReviewState } from "./parts/context";
import { Dialogs } from "./parts/Dialogs";
import { Grid } from "./parts/Grid";
import { GroupsView } from "./parts/GroupsView";
import { Outliers } from "./parts/Outliers";
import { Panel } from "./parts/Panel";
import { ImageView } from "./parts/ImageView";
import { StatusBar } from "./parts/StatusBar";
import { TagList } from "./parts/TagList";
import { Toasts } from "./parts/Toasts";
import { TopBar } from "./parts/TopBar";
import type { Review } from "./review";
import { toggleTheme } from "./theme";

const SIZES = [96, 120, 148, 184, 232, 300, 400];

export function App({ review }: { readonly review: Review }) {
  return (
    <ReviewContext value={review}>
      <Page />
    </ReviewContext>
  );
}

function Page() {
  const review = useReview();
  const fatal = useReviewState((state) => state.fatal);
  const view = useReviewState((state) => state.view);
  const side = useReviewState((state) => state.side);
  const panel = useReviewState((state) => state.panel);
  const started = useReviewState((state) => state.session !== null);

  useEffect(() => review.watch(), [review]);
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      const target = event.target instanceof HTMLElement ? event.target : document.body;
      if (
        target.closest("dialog") ||
        takesText(target.tagName, target.getAttribute("type") ?? "text", target.isContentEditable)
      )
        return;
      const state = review.store.get();
      const binding = actionOf(event);
      if (state.conflict) return;
      if (!binding) {
        if (target === document.body) hand(event);
        return;
      }
      event.preventDefault();
      if (state.session?.read_only && !binding.reads) review.sayReadOnly();
      else if (state.view === "groups" && binding.one) review.sayWhichOne();
      else act(review, binding.action);
    };
    document.addEventListener("keydown", press);
    return () => document.removeEventListener("keydown", press);
  }, [review]);
  // The images have the focus from the start, and again where a view was left.
  useEffect(() => {
    if (started) focusOn("images");
  }, [started, view]);

  if (fatal) {
    return (
      <main className="fatal">
        <h1>{fatal.error}</h1>
        <p>{fatal.hint}</p>
        <button type="button" onClick={() => void review.begin()}>
          Try again
        </button>
      </main>
    );
  }
  const beside = view === "image" || (panel && view === "grid");
  return (
    <div className={beside ? "page beside" : "page"}>
      <TopBar toggleTheme={() => toggleTheme(review)} />
      <nav className="side" aria-label={side === "tags" ? "Tags" : "Outliers"}>
        <div className="tabs" role="group" aria-label="List">
          <button
            type="button"
            className="plain"
            aria-pressed={side === "tags"}
            onClick={() => review.store.set({ side: "tags" })}
          >
            Tags
          </button>
          <button
            type="button"
            className="plain"
            aria-pressed={side === "outliers"}
            onClick={() => void review.openOutliers()}
          >
            Outliers <kbd>o</kbd>
          </button>
        </div>
        {side === "tags" ? <TagList /> : <Outliers />}
      </nav>
      <main className="centre">
        <Bars />
        {view === "grid" ? <Grid /> : view === "image" ? <ImageView /> : <GroupsView />}
        <Toasts />
      </main>
      {beside ? <Panel withImage={view === "grid"} /> : null}
      <StatusBar />
      <Dialogs />
    </div>
  );
}

/** A key that nothing has the focus for goes to the images: a click beside them takes the focus away. */
function hand(event: KeyboardEvent): void {
  const images = document.getElementById("images");
  if (!images || ["Tab", "Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
  images.focus();
  const { key, ctrlKey, metaKey, altKey, shiftKey } = event;
  // What the images do not know comes back here, from them, and is left to the browser.
  if (
    !images.dispatchEvent(
      new KeyboardEvent("keydown", {
        key,
        ctrlKey,
        metaKey,
        altKey,
        shiftKey,
        bubbles: true,
        cancelable: true,
      }),
    )
  ) {
    event.preventDefault();
  }
}

/** Draw what the key opens before the next key comes: whoever types fast must not type past the field. */
function act(review: Review, action: Action): void {
  const focus = flushSync(() => ACTIONS[action](review));
  if (typeof focus === "string") focusOn(focus);
}

/** What each key does; some name the element that gets the focus. */
const ACTIONS: Readonly<Record<Action, (review: Review) => unknown>> = {
  "add-tag": (review) => edit(review, "tag"),
  "edit-caption": (review) => edit(review, "text"),
  "add-everywhere": (review) => review.open("add"),
  "replace-tag": (review) => review.open("replace"),
  trigger: (review) => review.open("trigger"),
  scores: (review) => review.open("scores"),
  exclude: (review) => review.exclude(),
  difference: (review) =>
    review.store.set({ difference: !review.store.get().difference, editing: null, panel: true }),
  scope: (review) => review.cycleScope(),
  filter: () => "filter",
  "find-tag": (review) => {
    review.store.set({ side: "tags" });
    return "find-tag";
  },
  tags: () => "tags",
  images: () => "images",
  caption: (review) => {
    review.store.set({ panel: true, editing: null, difference: false });
    return "own-tags";
  },
  groups: (review) =>
    review.store.get().view === "groups" ? review.store.set({ view: "grid" }) : review.findGroups(),
  outliers: (review) => {
    if (review.store.get().side === "outliers") review.store.set({ side: "tags" });
    else void review.openOutliers();
    return "tags";
  },
  undo: (review) => review.undo(),
  redo: (review) => review.redo(),
  larger: (review) => resize(review, 1),
  smaller: (review) => resize(review, -1),
  theme: toggleTheme,
  sheet: (review) => review.store.set({ sheet: true }),
};

function edit(review: Review, editing: "tag" | "text"): void {
  if (review.here !== null) review.store.set({ editing, panel: true, difference: false });
}

function resize(review: Review, by: number): void {
  const at = SIZES.findIndex((size) => size >= review.store.get().least);
  review.store.set({ least: SIZES[Math.max(0, Math.min(SIZES.length - 1, at + by))] ?? 148 });
}

function focusOn(id: string): void {
  const element = document.getElementById(id);
  element?.focus();
  if (element instanceof HTMLInputElement) element.select();
}
