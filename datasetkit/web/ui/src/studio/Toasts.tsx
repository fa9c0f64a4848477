/** Short messages about what was done in any tab. */

import { t } from "../i18n";
import { ToastList } from "../parts/ToastList";
import { useStudio, useStudioState } from "./context";

export function Toasts() {
  const studio = useStudio();
  const toasts = useStudioState((state) => state.toasts);
  return (
    <ToastList
      toasts={toasts}
      undoText={t("band.undo")}
      closeText={t("close")}
      undo={() => void studio.undo()}
      dismiss={(id) => studio.dismiss(id)}
    />
  );
}
