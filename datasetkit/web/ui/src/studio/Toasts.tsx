/** Short messages about what was done; the newest may have an Undo button. */

import { Icon } from "../components/Icon";
import { t } from "../i18n";
import { useStudio, useStudioState } from "./context";

export function Toasts() {
  const studio = useStudio();
  const toasts = useStudioState((state) => state.toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {toasts.map((toast, index) => (
        <div key={toast.id} className={`toast ${toast.kind}`}>
          <p>
            {toast.message}
            {toast.detail ? <span className="muted"> {toast.detail}</span> : null}
          </p>
          {toast.undo && index === toasts.length - 1 ? (
            <button type="button" onClick={() => void studio.undo()}>
              {t("band.undo")} <kbd>u</kbd>
            </button>
          ) : null}
          <button
            type="button"
            className="plain icon-only"
            aria-label={t("close")}
            onClick={() => studio.dismiss(toast.id)}
          >
            <Icon name="close" />
          </button>
        </div>
      ))}
    </div>
  );
}
