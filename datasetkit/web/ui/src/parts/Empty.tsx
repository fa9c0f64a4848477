/** What stands where there are no images: why, and what to do. */

import { useReview, useReviewState } from "./context";

export function Empty() {
  const review = useReview();
  const filter = useReviewState((state) => state.filter);
  const loading = useReviewState((state) => state.listing === null);
  const name = useReviewState((state) => state.session?.name ?? "");
  if (loading) return <p className="empty quiet">Reading the images…</p>;
  if (filter !== "") {
    return (
      <div className="empty" role="row">
        <div role="gridcell">
          <h2>No image matches the filter</h2>
          <p className="quiet">{filter}</p>
          <button type="button" onClick={() => void review.filterBy("")}>
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
        <p className="quiet">
          Put JPEG, PNG, WebP, AVIF, BMP, GIF or TIFF files into the folder: they appear here.
        </p>
      </div>
    </div>
  );
}
