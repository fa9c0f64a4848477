/** The dialogs: keyboard shortcuts, and captions that changed since the page loaded them. */

import { BINDINGS, LIST_KEYS } from "../keys";
import { Dialog } from "../parts/Dialog";
import { plural } from "../review";
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
    <Dialog label="Keyboard shortcuts" close={close}>
      <header>
        <h2>Keyboard shortcuts</h2>
        <p className="muted">They work everywhere except in text fields.</p>
        <button type="button" onClick={close}>
          Close <kbd>Esc</kbd>
        </button>
      </header>
      <div className="key-columns">
        <section>
          <h3>Everywhere</h3>
          <dl>
            {BINDINGS.filter((binding) => binding.safe || !readOnly).map((binding) => (
              <div key={binding.key}>
                <dt>
                  <kbd>{binding.key}</kbd>
                </dt>
                <dd>{binding.label}</dd>
              </div>
            ))}
          </dl>
        </section>
        <div>
          {LIST_KEYS.map((list) => (
            <section key={list.where}>
              <h3>{list.where}</h3>
              <dl className="wide">
                {list.rows.map(([keys, label]) => (
                  <div key={keys}>
                    <dt>
                      <kbd>{keys}</kbd>
                    </dt>
                    <dd>{label}</dd>
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
    <Dialog label="Captions have changed" close={() => review.dismissConflict()}>
      <header>
        <h2>{plural(conflict.count, "caption")} changed in the meantime</h2>
        <p className="muted">Nothing was written.</p>
      </header>
      <ul className="conflicts" tabIndex={0} aria-label="Changed captions">
        {conflict.captions.map((caption) => (
          <li key={caption.id}>
            <b>{caption.name}</b>
            {caption.current === null ? <span className="removed">caption deleted</span> : null}
            {caption.removed.map((tag) => (
              <del key={`-${tag}`}>{tag}</del>
            ))}
            {caption.added.map((tag) => (
              <ins key={`+${tag}`}>{tag}</ins>
            ))}
            {caption.current !== null && caption.added.length + caption.removed.length === 0 ? (
              <span className="muted">the same tags in another order</span>
            ) : null}
          </li>
        ))}
        {hidden > 0 ? <li className="muted">and {hidden} more</li> : null}
      </ul>
      <footer>
        <button type="button" className="primary" onClick={() => review.dismissConflict()}>
          Cancel <kbd>Esc</kbd>
        </button>
        <button type="button" onClick={conflict.applyAnyway}>
          Apply anyway
        </button>
      </footer>
    </Dialog>
  );
}
