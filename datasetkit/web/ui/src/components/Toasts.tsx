/** Short messages about the last edits. */

import { ToastList } from "../parts/ToastList";
import { useReview, useReviewState } from "./context";

export function Toasts() {
  const review = useReview();
  const toasts = useReviewState((state) => state.toasts);
  return (
    <ToastList
      toasts={toasts}
      label="Messages"
      undoText="Undo"
      closeText="Close"
      undo={() => void review.undo()}
      dismiss={(id) => review.dismiss(id)}
    />
  );
}
