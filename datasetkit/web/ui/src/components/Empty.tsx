/** What the grid shows instead of images: why there are none, and what to do. */

import { useReview, useReviewState } from "./context";

export function Empty() {
  const review = useReview();
  const filter = useReviewState((state) => state.filter);
  const loading = useReviewState((state) => state.listing === null);
  const name = useReviewState((state) => state.session?.name ?? "");
  if (loading) {
    return (
      <div className="empty muted" role="row">
        <p role="gridcell">Loading images…</p>
      </div>
    );
  }
  if (filter !== "") {
    return (
      <div className="empty" role="row">
        <div role="gridcell">
          <h2>No images match the filter</h2>
          <p className="muted">{filter}</p>
          <button type="button" onClick={() => void review.setFilter("")}>
            Show all <kbd>Esc</kbd>
          </button>
        </div>
      </div>
    );
  }
  return (
    <div className="empty" role="row">
      <div role="gridcell">
        <h2>{name} has no images</h2>
        <p className="muted">
          Add JPEG, PNG, WebP, AVIF, BMP, GIF or TIFF files to the folder and they appear here.
        </p>
      </div>
    </div>
  );
}
