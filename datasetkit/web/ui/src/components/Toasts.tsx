/** Short messages about the last edits. */

import { t } from "../i18n";
import { ToastList } from "../parts/ToastList";
import { useReview, useReviewState } from "./context";

export function Toasts() {
  const review = useReview();
  const toasts = useReviewState((state) => state.toasts);
  return (
    <ToastList
      toasts={toasts}
      label={t("captions.messages")}
      undoText={t("captions.undo")}
      closeText={t("close")}
      undo={() => void review.undo()}
      dismiss={(id) => review.dismiss(id)}
    />
  );
}
