/** The trigger, pinned where a caption begins: what is added stands behind it. */

import { t } from "../i18n";
import { HOLE, Rich } from "../parts/Rich";
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
      title={t("captions.trigger.chip.title")}
      onClick={() => review.openEditBar("trigger")}
    >
      <Rich text={t("captions.trigger.chip", { words: HOLE })}>
        <b>{words.join(", ")}</b>
      </Rich>
    </button>
  );
}
