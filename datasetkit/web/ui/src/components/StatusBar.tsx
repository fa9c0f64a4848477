/** The status bar: the dataset in numbers, unreadable files, and changes by other programs. */

import { plural } from "../review";
import { useReview, useReviewState } from "./context";

export function StatusBar() {
  const review = useReview();
  const session = useReviewState((state) => state.session);
  const images = useReviewState((state) => state.images);
  const online = useReviewState((state) => state.online);
  const externalChanges = useReviewState((state) => state.externalChanges);
  if (!session) return null;
  const uncaptioned = session.images - session.captioned;
  return (
    <footer className="status-bar">
      <span>{plural(images, "image")}</span>
      {uncaptioned > 0 ? <span>{uncaptioned.toLocaleString("en")} without caption</span> : null}
      {session.scores ? (
        <span title={session.tagger}>
          scores from {session.tagger.split("@")[0]}, threshold {session.threshold}
        </span>
      ) : (
        <span>no scores: run dsk tag</span>
      )}
      {session.failed.length ? (
        <details>
          <summary>{plural(session.failed.length, "unreadable image")}</summary>
          <ul>
            {session.failed.map((failure) => (
              <li key={failure.name}>
                <b>{failure.name}</b> {failure.error}
              </li>
            ))}
          </ul>
        </details>
      ) : null}
      {session.notice ? <span>{session.notice}</span> : null}
      <span className="spacer" />
      <span role="status" aria-live="polite" className="messages">
        {!online ? (
          <b className="error-text">dsk review does not respond; captions are safe on disk</b>
        ) : null}
        {externalChanges.length ? (
          <>
            <b>Changed on disk:</b> {externalChanges.join(" · ")}
            <button
              type="button"
              className="plain tiny"
              onClick={() => review.store.set({ externalChanges: [] })}
            >
              OK
            </button>
          </>
        ) : null}
      </span>
    </footer>
  );
}
