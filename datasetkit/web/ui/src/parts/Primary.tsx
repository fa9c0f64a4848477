/** The main button of a tab, bottom right of the work area, also Ctrl Enter. Why it cannot be
 * pressed stands beside it. In the tour it leads on to the next tab. */

import { useMemo, useRef } from "react";
import { t } from "../i18n";
import { usePrimary } from "../studio/context";
import { go, routeStore } from "../studio/route";
import { leadsTo, read, tourStore } from "../studio/tour";

export interface PrimaryProps {
  /** What happens, with numbers: "Tag 24 images". */
  readonly label: string;
  readonly onPress: () => void;
  /** Why it cannot be pressed. */
  readonly blocked?: string;
  /** That it was done already; then it cannot be pressed either. */
  readonly done?: string;
}

export function Primary(props: PrimaryProps) {
  const { label, onPress, done = "" } = props;
  const blocked = props.blocked || done;
  const press = useRef(onPress);
  press.current = () => {
    onPress();
    const { tab } = routeStore.get();
    const next = leadsTo(tourStore.get(), tab);
    if (next === null) return;
    read(tab);
    go(next);
  };
  usePrimary(useMemo(() => ({ label, blocked, run: () => press.current() }), [label, blocked]));
  return (
    <div className="primary-action">
      {blocked ? (
        <p className={props.blocked ? "blocked" : "blocked done"} id="primary-blocked">
          {done && !props.blocked ? "✓" : t("why.not")} {blocked}
        </p>
      ) : null}
      <button
        type="button"
        className="primary"
        aria-disabled={blocked !== ""}
        aria-describedby={blocked ? "primary-blocked" : undefined}
        title="Ctrl Enter"
        onClick={() => blocked === "" && press.current()}
      >
        {label}
      </button>
    </div>
  );
}
