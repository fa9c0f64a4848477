/** What the grid shows instead of images: why there are none, and what to do. */

import { t } from "../i18n";
import { useReview, useReviewState } from "./context";

export function Empty() {
  const review = useReview();
  const filter = useReviewState((state) => state.filter);
  const loading = useReviewState((state) => state.listing === null);
  const name = useReviewState((state) => state.session?.name ?? "");
  if (loading) {
    return (
      <div className="empty muted" role="row">
        <p role="gridcell">{t("captions.images.loading")}</p>
      </div>
    );
  }
  if (filter !== "") {
    return (
      <div className="empty" role="row">
        <div role="gridcell">
          <h2>{t("captions.filter.none")}</h2>
          <p className="muted">{filter}</p>
          <button type="button" onClick={() => void review.setFilter("")}>
            {t("captions.filter.all")} <kbd>Esc</kbd>
          </button>
        </div>
      </div>
    );
  }
  return (
    <div className="empty" role="row">
      <div role="gridcell">
        <h2>{t("captions.images.none", { name })}</h2>
        <p className="muted">{t("captions.images.none.hint")}</p>
      </div>
    </div>
  );
}
