/** What a tab shows instead of its content: one sentence, what to do, and an explanation. */

import type { ReactNode } from "react";
import { t } from "../i18n";
import type { TabName } from "../studio/facts";
import { go } from "../studio/route";

interface EmptyStateProps {
  readonly title: string;
  readonly hint: string;
  /** A question that a beginner has, and its answer. */
  readonly question: string;
  readonly answer: string;
  /** The tab where the next step is. */
  readonly next?: TabName | undefined;
  /** A button, or a drop area. */
  readonly children?: ReactNode;
}

export function EmptyState({ title, hint, question, answer, next, children }: EmptyStateProps) {
  return (
    <div className="empty-state">
      <h2>{title}</h2>
      <p className="muted">{hint}</p>
      {children}
      {next ? (
        <button type="button" className="primary" onClick={() => go(next)}>
          {t("palette.tab", { tab: t(`tab.${next}`) })}
        </button>
      ) : null}
      <details>
        <summary>{question}</summary>
        <p>{answer}</p>
      </details>
    </div>
  );
}
