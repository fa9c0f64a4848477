/** What asks for an answer: the sheet of keys, and captions that changed on disk in the meantime. */

import { type ReactNode, useEffect, useRef } from "react";
import { BINDINGS, ELSEWHERE } from "../keys";
import { many } from "../review";
import { useReview, useReviewState } from "./context";

function Dialog({
  label,
  close,
  children,
}: {
  readonly label: string;
  readonly close: () => void;
  readonly children: ReactNode;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    element?.showModal();
    element?.querySelector<HTMLElement>(".main")?.focus();
    return () => {
      element?.close();
      if (before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-label={label}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onKeyDown={(event) => event.stopPropagation()}
      onClick={(event) => event.target === dialog.current && close()}
    >
      <div className="sheet">{children}</div>
    </dialog>
  );
}

export function Dialogs() {
  const sheet = useReviewState((state) => state.sheet);
  const conflict = useReviewState((state) => state.conflict);
  if (conflict) return <ConflictDialog />;
  return sheet ? <KeySheet /> : null;
}

function KeySheet() {
  const review = useReview();
  const readOnly = useReviewState((state) => state.session?.read_only ?? false);
  const close = () => review.store.set({ sheet: false });
  return (
    <Dialog label="Keys" close={close}>
      <header>
        <h2>Keys</h2>
        <p className="quiet">A letter means the same everywhere. In a field it is only a letter.</p>
        <button type="button" onClick={close}>
          Close <kbd>Esc</kbd>
        </button>
      </header>
      <div className="key-columns">
        <section>
          <h3>Anywhere</h3>
          <dl>
            {BINDINGS.filter((binding) => binding.reads || !readOnly).map((binding) => (
              <div key={binding.key}>
                <dt>
                  <kbd>{binding.key}</kbd>
                </dt>
                <dd>{binding.says}</dd>
              </div>
            ))}
          </dl>
        </section>
        <div>
          {ELSEWHERE.map((group) => (
            <section key={group.where}>
              <h3>{group.where}</h3>
              <dl className="wide">
                {group.rows.map(([keys, says]) => (
                  <div key={keys}>
                    <dt>
                      <kbd>{keys}</kbd>
                    </dt>
                    <dd>{says}</dd>
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
  return (
    <Dialog label="Changed in the meantime" close={() => review.dismissConflict()}>
      <header>
        <h2>{many(conflict.count, "caption")} changed in the meantime</h2>
        <p className="quiet">{conflict.says} Nothing was written.</p>
      </header>
      <ul className="changes" tabIndex={0} aria-label="What changed">
        {conflict.changed.map((change) => (
          <li key={change.id}>
            <b>{change.name}</b>
            {change.now === null ? <span className="removed">the caption is gone</span> : null}
            {change.removed.map((tag) => (
              <del key={`-${tag}`}>{tag}</del>
            ))}
            {change.added.map((tag) => (
              <ins key={`+${tag}`}>{tag}</ins>
            ))}
            {change.now !== null && change.added.length + change.removed.length === 0 ? (
              <span className="quiet">the same tags in another order</span>
            ) : null}
          </li>
        ))}
        {conflict.count > conflict.changed.length ? (
          <li className="quiet">and {conflict.count - conflict.changed.length} more</li>
        ) : null}
      </ul>
      <footer>
        <button type="button" className="main" onClick={() => review.dismissConflict()}>
          Leave it and look <kbd>Esc</kbd>
        </button>
        <button type="button" onClick={conflict.again}>
          Do it all the same
        </button>
      </footer>
    </Dialog>
  );
}
