/** Short messages about what was done; the newest may have an Undo button. */

import { Icon } from "../components/Icon";

export interface Toast {
  readonly id: number;
  readonly message: string;
  readonly detail: string;
  readonly kind: "done" | "warning" | "error";
  /** Show an Undo button. */
  readonly undo: boolean;
}

interface ToastListProps {
  readonly toasts: readonly Toast[];
  readonly label?: string;
  readonly undoText: string;
  readonly closeText: string;
  readonly undo: () => void;
  readonly dismiss: (id: number) => void;
}

export function ToastList(props: ToastListProps) {
  const { toasts, label, undoText, closeText, undo, dismiss } = props;
  return (
    <div className="toasts" role="status" aria-live="polite" aria-label={label}>
      {toasts.map((toast, index) => (
        <div key={toast.id} className={`toast ${toast.kind}`}>
          <p>
            {toast.message}
            {toast.detail ? <span className="muted"> {toast.detail}</span> : null}
          </p>
          {toast.undo && index === toasts.length - 1 ? (
            <button type="button" onClick={undo}>
              {undoText} <kbd>u</kbd>
            </button>
          ) : null}
          <button
            type="button"
            className="plain icon-only"
            aria-label={closeText}
            onClick={() => dismiss(toast.id)}
          >
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
