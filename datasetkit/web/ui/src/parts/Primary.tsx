/** The main button of a tab, bottom right of the work area, also Ctrl Enter. Why it cannot be
 * pressed stands beside it, with a link to the tab that changes that. */

import { useMemo, useRef } from "react";
import { t, tKey } from "../i18n";
import { usePrimary } from "../studio/context";
import type { TabName } from "../studio/facts";
import { formatRoute } from "../studio/route";

export interface PrimaryProps {
  /** What happens, with numbers: "Tag 24 images". */
  readonly label: string;
  readonly onPress: () => void;
  /** Why it cannot be pressed. */
  readonly blocked?: string;
  /** The tab where that is changed. */
  readonly blockedTab?: TabName;
  /** That it was done already; then it cannot be pressed either. */
  readonly done?: string;
}

export function Primary(props: PrimaryProps) {
  const { label, onPress, blockedTab, done = "" } = props;
  const blocked = props.blocked || done;
  const press = useRef(onPress);
  press.current = onPress;
  usePrimary(useMemo(() => ({ label, blocked, run: () => press.current() }), [label, blocked]));
  return (
    <div className="primary-action">
      {blocked ? (
        <p className={props.blocked ? "blocked" : "blocked done"} id="primary-blocked">
          {done && !props.blocked ? "✓" : t("why.not")} {blocked}{" "}
          {blockedTab ? <a href={formatRoute(blockedTab)}>{tKey(`tab.${blockedTab}`)}</a> : null}
        </p>
      ) : null}
      <button
        type="button"
        className="primary"
        aria-disabled={blocked !== ""}
        aria-describedby={blocked ? "primary-blocked" : undefined}
        title="Ctrl Enter"
        onClick={() => blocked === "" && onPress()}
      >
        {label}
      </button>
    </div>
  );
}
