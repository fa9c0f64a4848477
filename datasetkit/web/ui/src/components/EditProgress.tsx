/** How far a running edit is, in the middle of the page's head. */

import { t } from "../i18n";
import { progressText } from "../review";
import { useReviewState } from "./context";

export function EditProgress() {
  const progress = useReviewState((state) => state.progress);
  if (progress === null) return null;
  const { done, total } = progress;
  return (
    <div className="edit-progress" role="status" aria-live="polite">
      <span>{progressText(progress)}</span>
      <progress
        aria-label={t("captions.progress")}
        {...(total > 0 ? { value: done, max: total } : {})}
      />
    </div>
  );
}
