/** What a tab shows instead of its content: one sentence, what to do, and an explanation. */

import type { ReactNode } from "react";

interface EmptyStateProps {
  readonly title: string;
  readonly hint: string;
  /** A question that a beginner has, and its answer. */
  readonly question: string;
  readonly answer: string;
  /** A button, or a drop area. */
  readonly children?: ReactNode;
}

export function EmptyState({ title, hint, question, answer, children }: EmptyStateProps) {
  return (
    <div className="empty-state">
      <h2>{title}</h2>
      <p className="muted">{hint}</p>
      {children}
      <details>
        <summary>{question}</summary>
        <p>{answer}</p>
      </details>
    </div>
  );
}
