/** The trigger, pinned where a caption begins: what is added stands behind it. */

import { useReview, useReviewState } from "./context";

export function TriggerChip({ words }: { readonly words: readonly string[] }) {
  const review = useReview();
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  if (words.length === 0) return null;
  return (
    <button
      type="button"
      className="trigger-chip"
      disabled={readOnly}
      title="Put the trigger first in scope (t)"
      onClick={() => review.openEditBar("trigger")}
    >
      trigger: <b>{words.join(", ")}</b>
    </button>
  );
}
