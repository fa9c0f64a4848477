/** The note of the tour for the open tab. It does not cover the main button, which goes on. */

import { useEffect } from "react";
import { Icon } from "../components/Icon";
import { t } from "../i18n";
import { useStore } from "../store";
import { useStudioState } from "./context";
import { TAB_NAMES, type TabName } from "./facts";
import { go } from "./route";
import { endTour, hasNote, read, tabAfter, tourStore } from "./tour";

export function Note({ tab }: { readonly tab: TabName }) {
  const shown = useStore(tourStore, (state) => hasNote(state, tab));
  const primary = useStudioState((state) => state.primary);
  useEffect(() => {
    if (!shown) return;
    const onKeyDown = (event: KeyboardEvent) => {
      const inDialog = event.target instanceof Element && event.target.closest("dialog");
      if (event.key === "Escape" && !event.defaultPrevented && !inDialog) endTour();
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, [shown]);
  if (!shown) return null;
  const next = tabAfter(tab);
  const action = primary && primary.blocked === "" ? primary : null;
  const goOn = () => {
    if (action)
      action.run(); // it may lead on, while the note is not read
    else if (next) go(next);
    read(tab);
  };
  return (
    <aside className="tour-note" aria-label={t("tour.label")}>
      <header>
        <b>
          {t("tour.place", { n: TAB_NAMES.indexOf(tab) + 1, of: TAB_NAMES.length })} ·{" "}
          {t(`tab.${tab}`)}
        </b>
        <button
          type="button"
          className="plain icon-only"
          aria-label={t("tour.end")}
          title={`${t("tour.end")} (Esc)`}
          onClick={endTour}
        >
          <Icon name="close" />
        </button>
      </header>
      <p>{t(`tour.${tab}`)}</p>
      <footer>
        <button type="button" onClick={goOn}>
          {action ? action.label : next ? t("tour.next", { tab: t(`tab.${next}`) }) : t("close")}
        </button>
        {action && next ? (
          <button
            type="button"
            className="plain"
            onClick={() => {
              read(tab);
              go(next);
            }}
          >
            {t("tour.skip", { tab: t(`tab.${next}`) })}
          </button>
        ) : null}
      </footer>
    </aside>
  );
}
