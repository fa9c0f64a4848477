/** Short messages about the last edits; the newest has an Undo button. */

import { useReview, useReviewState } from "./context";
import { Icon } from "./Icon";

export function Toasts() {
  const review = useReview();
  const toasts = useReviewState((state) => state.toasts);
  return (
    <div className="toasts" role="status" aria-live="polite" aria-label="Messages">
      {toasts.map((toast, index) => (
        <div key={toast.id} className={`toast ${toast.kind}`}>
          <p>
            {toast.message}
            {toast.detail ? <span className="muted"> {toast.detail}</span> : null}
          </p>
          {toast.undo && index === toasts.length - 1 ? (
            <button type="button" onClick={() => void review.undo()}>
              Undo <kbd>u</kbd>
            </button>
          ) : null}
          <button
            type="button"
            className="plain icon-only"
            aria-label="Close"
            onClick={() => review.dismiss(toast.id)}
          >
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
