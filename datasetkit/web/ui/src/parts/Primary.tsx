/** The main button of a tab, bottom right of the work area, also Ctrl Enter. Why it cannot be
 * pressed stands beside it. In the tour it leads on to the next tab. */

import { useMemo, useRef } from "react";
import { t } from "../i18n";
import { usePrimary } from "../studio/context";
import { go, routeStore } from "../studio/route";
import { useStore } from "../store";
import { leadsTo, read, tabAfter, tourStore } from "../studio/tour";

export interface PrimaryProps {
  /** What happens, with numbers: "Tag 24 images". */
  readonly label: string;
  /** A promise is waited for before the tour leads on: the next tab looks at what has begun. After
   * false, for what did not begin, it stays. */
  readonly onPress: () => unknown;
  /** Why it cannot be pressed. */
  readonly blocked?: string;
  /** That it was done already; the button then leads to the next tab. */
  readonly done?: string;
}

export function Primary(props: PrimaryProps) {
  const tab = useStore(routeStore, (route) => route.tab);
  // What is done leads on to the next tab.
  const tour = useStore(tourStore, (state) => state);
  const next = props.blocked || !props.done ? null : (leadsTo(tour, tab) ?? tabAfter(tab));
  const label = next ? t("tour.next", { tab: t(`tab.${next}`) }) : props.label;
  const blocked = props.blocked || (next ? "" : props.done) || "";
  const onPress = next ? () => go(next) : props.onPress;
  const press = useRef<() => unknown>(onPress);
  press.current = async () => {
    const begun = await onPress();
    const then = next || begun === false ? null : leadsTo(tourStore.get(), tab);
    if (then === null) return;
    read(tab);
    go(then);
  };
  usePrimary(useMemo(() => ({ label, blocked, run: () => press.current() }), [label, blocked]));
  return (
    <div className="primary-action">
      {blocked || next ? (
        <p className={next ? "blocked done" : "blocked"} id="primary-blocked">
          {next ? "✓" : t("why.not")} {next ? props.done : blocked}
        </p>
      ) : null}
      <button
        type="button"
        className="primary"
        aria-disabled={blocked !== ""}
        aria-describedby={blocked || next ? "primary-blocked" : undefined}
        title="Ctrl Enter"
        onClick={() => blocked === "" && press.current()}
      >
        {label}
      </button>
    </div>
  );
}
