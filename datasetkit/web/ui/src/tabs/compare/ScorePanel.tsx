/** What was measured beside the images, never one number; the suggestion with its reasons; marks. */

import { useState } from "react";
import { Icon } from "../../components/Icon";
import { language, serverText, t, tKey } from "../../i18n";
import { useNarrow } from "../../parts/WorkArea";
import { useStudio, useStudioState } from "../../studio/context";
import { type At, labelText, type Table } from "./layout";
import { countMarks, countsText } from "./marks";
import { rowsFor, scoreLines } from "./scores";
import type { Grid } from "./shapes";

interface ScorePanelProps {
  readonly grid: Grid;
  readonly table: Table;
  readonly order: readonly number[];
  readonly labels: readonly string[];
  /** Labels and scores are covered until the marks are given. */
  readonly covered: boolean;
  readonly at: At;
  readonly setAt: (at: At) => void;
}

export function ScorePanel(props: ScorePanelProps) {
  const { grid, table, order, labels, covered, at, setAt } = props;
  const real = order.map((column) => table.columns[column]?.label ?? "");
  const rows = grid.scores && !covered ? rowsFor(grid.scores, real) : [];
  const lines = scoreLines(rows);
  const counts = countMarks(table, grid.marks);
  const studio = useStudio();
  const drawerOpen = useStudioState((state) => state.drawerOpen);
  const narrow = useNarrow();
  const open = !narrow || drawerOpen;
  const marked = counts.some((column) => column.some((count) => count > 0));
  return (
    <section className="compare-scores" aria-label={t("compare.scores")}>
      <h2>
        {narrow ? (
          <button
            type="button"
            className="plain"
            aria-expanded={open}
            onClick={() => studio.store.set({ drawerOpen: !drawerOpen })}
          >
            <Icon name="panel" /> {t("compare.scores")} <kbd>i</kbd>
          </button>
        ) : (
          t("compare.scores")
        )}
      </h2>
      {open && (lines.length > 0 || marked || covered) ? (
        <table>
          <thead>
            <tr>
              <td />
              {lines.map((line) => (
                <th key={line.measure} scope="col" title={tKey(`compare.help.${line.measure}`)}>
                  {tKey(`compare.score.${line.measure}`)}
                </th>
              ))}
              <th scope="col">{t("compare.marks")}</th>
            </tr>
          </thead>
          <tbody>
            {order.map((column, n) => (
              <tr
                key={column}
                className={column === at.column ? "active" : ""}
                onClick={() => setAt({ row: at.row, column })}
              >
                <th scope="row">{labels[n]}</th>
                {lines.map((line) => {
                  const cell = line.cells[n];
                  const [value, error] = (cell?.text ?? "–").split(" ± ");
                  return (
                    <td key={line.measure} className={cell?.best ? "best" : ""}>
                      {value}
                      {error ? <span className="muted small"> ±{error}</span> : null}
                    </td>
                  );
                })}
                <td className="marks">{countsText(counts[column] ?? [])}</td>
              </tr>
            ))}
          </tbody>
        </table>
      ) : null}
      {covered ? <p className="muted">{t("compare.scores.covered")}</p> : null}
      {!grid.scores ? <p className="muted">{t("compare.scores.none")}</p> : null}
      {grid.scores && !covered ? <SuggestionText grid={grid} /> : null}
    </section>
  );
}

function SuggestionText({ grid }: { readonly grid: Grid }) {
  const [why, setWhy] = useState(false);
  const scores = grid.scores;
  if (!scores) return null;
  const { label, reasons, remarks } = scores.suggestion;
  return (
    <div className="compare-suggestion">
      <p>
        {label === ""
          ? t("compare.suggestion.none")
          : t("compare.suggestion", { label: labelText(label) })}{" "}
        {reasons[0] ? <span>{sentence(reasons[0])} </span> : null}
        <button type="button" className="link" aria-expanded={why} onClick={() => setWhy(!why)}>
          {t("compare.why")}
        </button>
      </p>
      {why ? (
        <ul>
          {[...reasons.slice(1), ...remarks, ...scores.notes].map((text) => (
            <li key={text}>{sentence(text)}</li>
          ))}
          <li>{t("compare.why.test")}</li>
        </ul>
      ) : null}
    </div>
  );
}

function sentence(english: string): string {
  const text = serverText(english);
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}${language() === "zh" ? "。" : "."}`;
}
