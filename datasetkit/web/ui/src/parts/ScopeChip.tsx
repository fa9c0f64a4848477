/** The chip that says, at all times, which images the next edit will reach. */

import type { ScopeName } from "../state";
import { useReview, useReviewState } from "./context";

export function ScopeChip() {
  const review = useReview();
  const scope = useReviewState((state) => state.scope);
  const images = useReviewState((state) => state.images);
  const filter = useReviewState((state) => state.filter.trim());
  const matching = useReviewState((state) => state.listing?.total ?? 0);
  const chosen = useReviewState((state) => state.selection.chosen.size);
  const parts: readonly (readonly [ScopeName, number, boolean])[] = [
    ["all", images, true],
    ["filtered", filter === "" ? images : matching, filter !== ""],
    ["selected", chosen, chosen > 0],
  ];
  return (
    <div className="scope" role="group" aria-label="Edits reach">
      {parts.map(([name, count, usable]) => (
        <button
          key={name}
          type="button"
          aria-pressed={scope === name}
          disabled={!usable}
          title="Which images an edit reaches (s)"
          onClick={() => review.setScope(name)}
        >
          {name} <b>{count.toLocaleString("en")}</b>
        </button>
      ))}
      <kbd aria-hidden="true">s</kbd>
    </div>
  );
}
