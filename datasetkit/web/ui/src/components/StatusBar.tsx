/** The status bar: the dataset in numbers, unreadable files, and changes by other programs. */

import { number, t } from "../i18n";
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
      <span>{t("captions.n.image", { n: images })}</span>
      {uncaptioned > 0 ? <span>{t("captions.status.without", { n: uncaptioned })}</span> : null}
      {session.scores ? (
        <span title={session.tagger}>
          {t("captions.status.scores", {
            tagger: session.tagger.split("@")[0] ?? "",
            threshold: number(session.threshold),
          })}
        </span>
      ) : (
        <span>{t("captions.status.noScores")}</span>
      )}
      {session.failed.length ? (
        <details>
          <summary>{t("captions.n.unreadable", { n: session.failed.length })}</summary>
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
        {!online ? <b className="error-text">{t("captions.status.gone")}</b> : null}
        {externalChanges.length ? (
          <>
            <b>{t("captions.status.changed")}</b> {externalChanges.join(" · ")}
            <button
              type="button"
              className="plain tiny"
              onClick={() => review.store.set({ externalChanges: [] })}
            >
              {t("captions.ok")}
            </button>
          </>
        ) : null}
      </span>
    </footer>
  );
}
