/** The page: its layout, and what each keyboard shortcut does. */

import { useEffect } from "react";
import { flushSync } from "react-dom";
import { t } from "./i18n";
import { type Action, bindingFor, isTextField } from "./keys";
import { ReviewContext, useReview, useReviewState } from "./components/context";
import { Dialogs } from "./components/Dialogs";
import { EditBars } from "./components/EditBars";
import { EditProgress } from "./components/EditProgress";
import { Grid } from "./components/Grid";
import { ImageView } from "./components/ImageView";
import { NearDuplicatesView } from "./components/NearDuplicatesView";
import { Panel } from "./components/Panel";
import { Sidebar } from "./components/Sidebar";
import { StatusBar } from "./components/StatusBar";
import { Toasts } from "./components/Toasts";
import { TopBar } from "./components/TopBar";
import type { Review } from "./review";
import { toggleTheme } from "./theme";

/** Minimum cell widths, smallest first. */
const CELL_WIDTHS = [96, 120, 148, 184, 232, 300, 400];

interface AppProps {
  readonly review: Review;
  /** It is the tab Captions of the studio, whose bands have a part of the buttons. */
  readonly embedded?: boolean;
}

export function App({ review, embedded = false }: AppProps) {
  return (
    <ReviewContext value={review}>
      <Page embedded={embedded} />
    </ReviewContext>
  );
}

function Page({ embedded }: { readonly embedded: boolean }) {
  const review = useReview();
  const fatal = useReviewState((state) => state.fatal);
  const view = useReviewState((state) => state.view);
  const panelOpen = useReviewState((state) => state.panelOpen);
  const loaded = useReviewState((state) => state.session !== null);

  // In the studio, events say when something has changed.
  useEffect(() => (embedded ? undefined : review.poll()), [review, embedded]);
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => handleKey(review, event);
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, [review]);
  // The images have the focus at the start, and after each change of the view.
  useEffect(() => {
    if (loaded) focusOn("images");
  }, [loaded, view]);

  if (fatal) {
    return (
      <main className="fatal">
        <h1>{fatal.error}</h1>
        <p>{fatal.hint}</p>
        <button type="button" onClick={() => void review.start()}>
          {t("server.retry")}
        </button>
      </main>
    );
  }
  // In the studio the tab is within its main.
  const Content = embedded ? "div" : "main";
  const hasPanel = view === "image" || (panelOpen && view === "grid");
  return (
    <div className={hasPanel ? "page with-panel" : "page"}>
      <TopBar embedded={embedded} />
      <Sidebar />
      <Content className="content">
        <EditBars />
        {view === "grid" ? <Grid /> : view === "image" ? <ImageView /> : <NearDuplicatesView />}
        <Toasts />
      </Content>
      {hasPanel ? <Panel withImage={view === "grid"} /> : null}
      <StatusBar />
      <EditProgress />
      <Dialogs />
    </div>
  );
}

function handleKey(review: Review, event: KeyboardEvent): void {
  const target = event.target instanceof HTMLElement ? event.target : document.body;
  const type = target.getAttribute("type") ?? "text";
  if (target.closest("dialog") || isTextField(target.tagName, type, target.isContentEditable)) {
    return;
  }
  const state = review.store.get();
  if (state.conflict) return;
  const binding = bindingFor(event);
  if (!binding) {
    if (target === document.body) forwardToImages(event);
    return;
  }
  event.preventDefault();
  if (state.session?.read_only && !binding.safe) review.warnReadOnly();
  else if (state.view === "near-duplicates" && binding.ofImage) review.warnNoCursor();
  else run(review, binding.action);
}

/** Pass a key on to the images if nothing has the focus, for example after a click beside them. */
function forwardToImages(event: KeyboardEvent): void {
  const images = document.getElementById("images");
  if (!images || ["Tab", "Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
  images.focus();
  const { key, ctrlKey, metaKey, altKey, shiftKey } = event;
  const forwarded = new KeyboardEvent("keydown", {
    key,
    ctrlKey,
    metaKey,
    altKey,
    shiftKey,
    bubbles: true,
    cancelable: true,
  });
  // A key that the images do not handle bubbles up to `handleKey` again, from a target that is not
  // the body, and is left to the browser.
  if (!images.dispatchEvent(forwarded)) event.preventDefault();
}

/** Render what a key opens before the next key arrives: fast typing must not miss the new field. */
function run(review: Review, action: Action): void {
  const focus = flushSync(() => ACTIONS[action](review));
  if (typeof focus === "string") focusOn(focus);
}

/** What each action does. Some return the id of the element that gets the focus. */
const ACTIONS: Readonly<Record<Action, (review: Review) => unknown>> = {
  "add-tag": (review) => startEditing(review, "tag"),
  "edit-caption": (review) => startEditing(review, "text"),
  "add-everywhere": (review) => review.openEditBar("add"),
  "replace-tag": (review) => review.openEditBar("replace"),
  trigger: (review) => review.openEditBar("trigger"),
  scores: (review) => review.openEditBar("scores"),
  meaning: (review) => review.openEditBar("meaning"),
  exclude: (review) => review.exclude(),
  compare: (review) =>
    review.store.set({
      comparing: !review.store.get().comparing,
      editing: null,
      panelOpen: true,
    }),
  scope: (review) => review.cycleScope(),
  filter: () => "filter",
  "search-tags": (review) => {
    review.store.set({ sidebar: "tags" });
    return "search-tags";
  },
  tags: () => "tags",
  images: () => "images",
  caption: (review) => {
    review.store.set({ panelOpen: true, editing: null, comparing: false });
    return "image-tags";
  },
  "near-duplicates": (review) =>
    review.store.get().view === "near-duplicates"
      ? review.store.set({ view: "grid" })
      : review.showNearDuplicates(),
  outliers: (review) => {
    if (review.store.get().sidebar === "outliers") review.store.set({ sidebar: "tags" });
    else void review.openOutliers();
    return "tags";
  },
  suggestions: (review) => {
    if (review.store.get().sidebar === "suggestions") review.store.set({ sidebar: "tags" });
    else void review.openSuggestions();
    return "tags";
  },
  undo: (review) => review.undo(),
  redo: (review) => review.redo(),
  larger: (review) => resizeCells(review, 1),
  smaller: (review) => resizeCells(review, -1),
  theme: toggleTheme,
  shortcuts: (review) => review.store.set({ shortcutsOpen: true }),
};

function startEditing(review: Review, editing: "tag" | "text"): void {
  if (review.currentId !== null) {
    review.store.set({ editing, panelOpen: true, comparing: false });
  }
}

function resizeCells(review: Review, by: number): void {
  const current = CELL_WIDTHS.findIndex((width) => width >= review.store.get().minCellWidth);
  const next = Math.max(0, Math.min(CELL_WIDTHS.length - 1, current + by));
  review.store.set({ minCellWidth: CELL_WIDTHS[next] ?? 148 });
}

function focusOn(id: string): void {
  const element = document.getElementById(id);
  element?.focus();
  if (element instanceof HTMLInputElement) element.select();
}
