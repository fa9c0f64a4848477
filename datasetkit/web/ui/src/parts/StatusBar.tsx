/** The line at the bottom: the dataset in numbers, and what could not be read. */

import { many } from "../review";
import { useReview, useReviewState } from "./context";

export function StatusBar() {
  const review = useReview();
  const session = useReviewState((state) => state.session);
  const images = useReviewState((state) => state.images);
  const working = useReviewState((state) => state.working);
  const online = useReviewState((state) => state.online);
  const outside = useReviewState((state) => state.outside);
  if (!session) return null;
  const without = session.images - session.captioned;
  return (
    <footer className="status">
      <span>{many(images, "image")}</span>
      {without > 0 ? <span>{without.toLocaleString("en")} without caption</span> : null}
      {session.scores ? (
        <span title={session.tagger}>
          scores of {session.tagger.split("@")[0]}, cut at {session.threshold}
        </span>
      ) : (
        <span>no scores: dsk tag stores them</span>
      )}
      {session.failed.length ? (
        <details>
          <summary>{many(session.failed.length, "image")} unreadable</summary>
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
      <span className="gap" />
      <span role="status" aria-live="polite" className="news">
        {!online ? (
          <b className="bad">dsk review does not answer; captions are safe on disk</b>
        ) : null}
        {working ? "writing…" : null}
        {outside.length ? (
          <>
            <b>Changed outside:</b> {outside.join(" · ")}
            <button
              type="button"
              className="plain tiny"
              onClick={() => review.store.set({ outside: [] })}
            >
              OK
            </button>
          </>
        ) : null}
      </span>
    </footer>
  );
}
