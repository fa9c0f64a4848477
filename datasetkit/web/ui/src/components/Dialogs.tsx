/** The dialogs: keyboard shortcuts, and captions that changed since the page loaded them. */

import { t } from "../i18n";
import { BINDINGS, LIST_KEYS } from "../keys";
import { Close, Dialog } from "../parts/Dialog";
import { useReview, useReviewState } from "./context";

export function Dialogs() {
  const shortcutsOpen = useReviewState((state) => state.shortcutsOpen);
  const conflict = useReviewState((state) => state.conflict);
  if (conflict) return <ConflictDialog />;
  return shortcutsOpen ? <ShortcutsDialog /> : null;
}

function ShortcutsDialog() {
  const review = useReview();
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const close = () => review.store.set({ shortcutsOpen: false });
  return (
    <Dialog label={t("captions.keys")} close={close}>
      <header>
        <h2>{t("captions.keys")}</h2>
        <p className="muted">{t("captions.keys.where")}</p>
        <Close close={close} />
      </header>
      <div className="key-columns">
        <section>
          <h3>{t("captions.keys.everywhere")}</h3>
          <dl>
            {BINDINGS.filter((binding) => binding.safe || !readOnly).map((binding) => (
              <div key={binding.key}>
                <dt>
                  <kbd>{binding.key}</kbd>
                </dt>
                <dd>{t(`captions.key.${binding.action}`)}</dd>
              </div>
            ))}
          </dl>
        </section>
        <div>
          {LIST_KEYS.map((list) => (
            <section key={list.title}>
              <h3>{t(list.title)}</h3>
              <dl className="wide">
                {list.rows.map(([keys, name]) => (
                  <div key={keys}>
                    <dt>
                      <kbd>{keys}</kbd>
                    </dt>
                    <dd>{t(`captions.listKey.${name}`)}</dd>
                  </div>
                ))}
              </dl>
            </section>
          ))}
        </div>
      </div>
    </Dialog>
  );
}

function ConflictDialog() {
  const review = useReview();
  const conflict = useReviewState((state) => state.conflict);
  if (!conflict) return null;
  const hidden = conflict.count - conflict.captions.length;
  return (
    <Dialog label={t("captions.conflict")} close={() => review.dismissConflict()}>
      <header>
        <h2>{t("captions.conflict.title", { n: conflict.count })}</h2>
        <p className="muted">{t("captions.conflict.nothing")}</p>
      </header>
      <ul className="conflicts" tabIndex={0} aria-label={t("captions.conflict.list")}>
        {conflict.captions.map((caption) => (
          <li key={caption.id}>
            <b>{caption.name}</b>
            {caption.current === null ? (
              <span className="removed">{t("captions.conflict.deleted")}</span>
            ) : null}
            {caption.removed.map((tag) => (
              <del key={`-${tag}`}>{tag}</del>
            ))}
            {caption.added.map((tag) => (
              <ins key={`+${tag}`}>{tag}</ins>
            ))}
            {caption.current !== null && caption.added.length + caption.removed.length === 0 ? (
              <span className="muted">{t("captions.conflict.order")}</span>
            ) : null}
          </li>
        ))}
        {hidden > 0 ? <li className="muted">{t("captions.more", { n: hidden })}</li> : null}
      </ul>
      <footer>
        <Close close={() => review.dismissConflict()} primary cancel />
        <button type="button" onClick={conflict.applyAnyway}>
          {t("captions.conflict.apply")}
        </button>
      </footer>
    </Dialog>
  );
}
