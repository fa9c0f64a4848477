/** Short words about what was just done, each with the way back. */

import { useReview, useReviewState } from "./context";
import { Icon } from "./Icon";

export function Toasts() {
  const review = useReview();
  const toasts = useReviewState((state) => state.toasts);
  return (
    <div className="toasts" role="status" aria-live="polite" aria-label="What was done">
      {toasts.map((toast, at) => (
        <div key={toast.id} className={`toast ${toast.kind}`}>
          <p>
            {toast.says}
            {toast.detail ? <span className="quiet"> {toast.detail}</span> : null}
          </p>
          {toast.undo && at === toasts.length - 1 ? (
            <button type="button" onClick={() => void review.undo()}>
              Undo <kbd>u</kbd>
            </button>
          ) : null}
          <button
            type="button"
            className="plain square"
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
