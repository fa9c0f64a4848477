/** The scope switch: always shows which images the next edit changes. */

import type { ScopeName } from "../state";
import { useReview, useReviewState } from "./context";

export function ScopeChip() {
  const review = useReview();
  const scope = useReviewState((state) => state.scope);
  const images = useReviewState((state) => state.images);
  const filter = useReviewState((state) => state.filter.trim());
  const matching = useReviewState((state) => state.listing?.total ?? 0);
  const selected = useReviewState((state) => state.selection.ids.size);
  const scopes: readonly (readonly [name: ScopeName, count: number, enabled: boolean])[] = [
    ["all", images, true],
    ["filtered", filter === "" ? images : matching, filter !== ""],
    ["selected", selected, selected > 0],
  ];
  return (
    <div className="scope" role="group" aria-label="Scope of edits">
      {scopes.map(([name, count, enabled]) => (
        <button
          key={name}
          type="button"
          aria-pressed={scope === name}
          disabled={!enabled}
          title="Which images edits apply to (s)"
          onClick={() => review.setScope(name)}
        >
          {name} <b>{count.toLocaleString("en")}</b>
        </button>
      ))}
      <kbd aria-hidden="true">s</kbd>
    </div>
  );
}
