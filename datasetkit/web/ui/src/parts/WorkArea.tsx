/**
 * The layout of a tab: a column on the left, the content, a column on the right whose foot has the
 * main button. Below 1200 px the right column is a drawer, and the foot a bar below the content.
 */

import type { ReactNode } from "react";
import { useSyncExternalStore } from "react";
import { Icon } from "../components/Icon";
import { t } from "../i18n";
import { useStudio, useStudioState } from "../studio/context";

interface WorkAreaProps {
  readonly left?: ReactNode;
  readonly right?: ReactNode;
  /** What the right column is about, for its accessible name. */
  readonly rightLabel?: string;
  /** A `Primary`, and buttons before it. */
  readonly action?: ReactNode;
  /** What the bar says when the right column is closed, e.g. "1,560 steps · 52 min". */
  readonly summary?: ReactNode;
  readonly children: ReactNode;
}

const NARROW = "(max-width: 1199px)";

/** Whether the right column is a drawer now. */
export function useNarrow(): boolean {
  return useSyncExternalStore(
    (changed) => {
      const media = matchMedia(NARROW);
      media.addEventListener("change", changed);
      return () => media.removeEventListener("change", changed);
    },
    () => matchMedia(NARROW).matches,
  );
}

export function WorkArea({ left, right, rightLabel, action, summary, children }: WorkAreaProps) {
  const studio = useStudio();
  const narrow = useNarrow();
  const drawerOpen = useStudioState((state) => state.drawerOpen);
  const showRight = right !== undefined && (!narrow || drawerOpen);
  const bar = action !== undefined && (narrow || right === undefined);
  const classes = [
    "work",
    left ? "with-left" : "",
    right !== undefined && !narrow ? "with-right" : "",
  ];
  return (
    <div className={classes.join(" ")}>
      {left ? <div className="work-left">{left}</div> : null}
      <div className="work-main">{children}</div>
      {showRight ? (
        <aside className={narrow ? "work-right drawer" : "work-right"} aria-label={rightLabel}>
          {narrow ? (
            <button
              type="button"
              className="plain icon-only drawer-close"
              aria-label={t("close")}
              onClick={() => studio.store.set({ drawerOpen: false })}
            >
              <Icon name="close" />
            </button>
          ) : null}
          <div className="work-right-content">{right}</div>
          {action !== undefined && !narrow ? <div className="work-action">{action}</div> : null}
        </aside>
      ) : null}
      {bar || (narrow && right !== undefined) ? (
        <div className="work-bar">
          {narrow && right !== undefined ? (
            <button
              type="button"
              aria-expanded={drawerOpen}
              onClick={() => studio.store.set({ drawerOpen: !drawerOpen })}
            >
              <Icon name="panel" /> {t("details")} <kbd>i</kbd>
            </button>
          ) : null}
          <div className="work-summary">{summary}</div>
          {action}
        </div>
      ) : null}
    </div>
  );
}
