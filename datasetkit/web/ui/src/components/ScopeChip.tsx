/** The scope switch: always shows which images the next edit changes. */

import { number, t } from "../i18n";
import type { ScopeName } from "../state";
import { useReview, useReviewState } from "./context";

export function ScopeChip() {
  const review = useReview();
  const scope = useReviewState((state) => state.scope);
  const images = useReviewState((state) => state.images);
  const filter = useReviewState((state) => state.filter.trim());
  const problem = useReviewState((state) => state.filterProblem);
  const matching = useReviewState((state) => state.listing?.total ?? 0);
  const selected = useReviewState((state) => state.selection.ids.size);
  const scopes: readonly (readonly [name: ScopeName, count: number, enabled: boolean])[] = [
    ["all", images, true],
    ["filtered", filter === "" ? images : matching, filter !== ""],
    ["selected", selected, selected > 0],
  ];
  return (
    <div className="scope" role="group" aria-label={t("captions.scope")}>
      {scopes.map(([name, count, enabled]) => (
        <button
          key={name}
          type="button"
          aria-pressed={scope === name}
          disabled={!enabled}
          className={name === "filtered" && problem !== null ? "invalid" : ""}
          title={
            name === "filtered" && problem !== null
              ? t("captions.filter.invalid", { error: problem.error })
              : t("captions.scope.what")
          }
          onClick={() => review.setScope(name)}
        >
          {t(`captions.scope.${name}`)}{" "}
          <b>
            {name === "filtered" && problem !== null ? t("captions.scope.error") : number(count)}
          </b>
        </button>
      ))}
      <kbd aria-hidden="true">s</kbd>
    </div>
  );
}
