/** The tab Captions: the page of `dsk review`. */

import { useEffect, useRef } from "react";
import type { Root } from "react-dom/client";
import { App } from "../../App";
import { connect, type Session } from "../../api";
import type { Http } from "../../http";
import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";
import { Review } from "../../review";
import { useFiles, useStudio, useStudioState } from "../../studio/context";
import { NextStep } from "./NextStep";

/** It outlives the tab: filter, cursor and selection are still there on return. */
let review: Review | null = null;

export default function Captions() {
  const studio = useStudio();
  const images = useStudioState((state) => state.session.images);
  // An empty folder without a dsk.toml is the beginning of a project, not a fault.
  const problem = useStudioState(({ session, project }) =>
    project?.config.exists ? session.captions_problem : null,
  );
  const started = useRef(false);
  if (images > 0 && review === null) {
    review = new Review(connect(studio.http));
    if (innerWidth < 1200) review.store.set({ panelOpen: false });
  }
  useEffect(() => {
    if (review && !started.current && review.store.get().session === null) void review.start();
    started.current = true;
  });
  useFiles("captions", () => void review?.checkForChanges());
  useFiles("images", () => void review?.checkForChanges());
  // The button in the top band undoes through the review, which shows what changed.
  useEffect(() => {
    if (review === null) return;
    const current = review;
    studio.undoHandler = { undo: () => current.undo(), redo: () => current.redo() };
    const stop = current.store.subscribe(() => {
      const { undo, redo } = current.store.get();
      studio.setUndo(undo, redo);
    });
    return () => {
      stop();
      studio.undoHandler = null;
      studio.setUndo(studio.store.get().project?.history.undo ?? null, null);
    };
  }, [studio, images]);

  if (review === null) {
    return (
      <WorkArea>
        <EmptyState
          title={problem?.error ?? t("captions.empty")}
          hint={problem?.hint ?? t("captions.empty.hint")}
          question={t("captions.question")}
          answer={t("captions.answer")}
          next="images"
        />
      </WorkArea>
    );
  }
  return (
    <div className="captions-tab">
      <App review={review} embedded />
      <NextStep />
    </div>
  );
}

/** Show the review page alone, for `dsk review`. */
export function startReview(root: Root, http: Http, session: Session): void {
  const alone = new Review(connect(http));
  if (innerWidth < 1200) alone.store.set({ panelOpen: false });
  root.render(<App review={alone} />);
  void alone.start(session);
}
