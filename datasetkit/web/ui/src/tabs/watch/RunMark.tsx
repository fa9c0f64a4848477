/** The state of a run as a shape, with its word for screen readers. */

import { t } from "../../i18n";
import { isRunning, type JobState, type RunState } from "../../studio/api";

type MarkState = RunState | JobState;

const SHAPES: Readonly<Record<MarkState, string>> = {
  queued: "M6 2a4 4 0 1 0 .01 0M6 4v2.2l1.6 1",
  done: "M1.5 6.5 4.7 9.7 10.5 2.8",
  running: "M3 2v8l7-4z",
  stopping: "M3 3h6v6H3z",
  finished: "M1.5 6.5 4.7 9.7 10.5 2.8",
  stopped: "M4 2.5v7M8 2.5v7",
  failed: "M2.5 2.5l7 7M9.5 2.5l-7 7",
  lost: "M4 4a2.2 2.2 0 1 1 3.2 2c-.8.4-1 .8-1 1.4M6.1 10v.1",
  ended: "M2.5 6h7",
};

export function RunMark({ state }: { readonly state: MarkState }) {
  const filled = isRunning({ state });
  return (
    <span className={`run-mark is-${state}`} title={t(`job.state.${state}`)}>
      <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true" focusable="false">
        <path
          d={SHAPES[state]}
          fill={filled ? "currentColor" : "none"}
          stroke={filled ? "none" : "currentColor"}
          strokeWidth="1.6"
          strokeLinecap="round"
        />
      </svg>
      <span className="visually-hidden">{t(`job.state.${state}`)}</span>
    </span>
  );
}
