/** The preview images of a run: a row for each prompt, a column for each epoch. */

import { useEffect, useRef, useState } from "react";
import { isMissing } from "../../http";
import { serverText, t } from "../../i18n";
import { Close, Dialog } from "../../parts/Dialog";
import type { Run } from "../../studio/api";
import { useFiles, useStudio } from "../../studio/context";
import { cellUrl } from "../compare/api";
import { loadPreviews, type PreviewTable } from "./previews";

/** Pixels of the longer side. */
const SMALL = 400;

export function Previews({ run }: { readonly run: Run }) {
  const table = usePreviews(run);
  const [cursor, setCursor] = useState<readonly [row: number, column: number] | null>(null);
  const [large, setLarge] = useState(false);
  const grid = useRef<HTMLDivElement>(null);
  const active = useRef<HTMLButtonElement>(null);
  const columns = table?.columns ?? [];
  const rows = table?.rows ?? [];
  const [row, column] = cursor ?? [0, columns.length - 1];
  const current = table?.cell(row, column);

  // The newest images are on the right: show them, until somebody chose one.
  useEffect(() => {
    if (cursor === null && grid.current) grid.current.scrollLeft = grid.current.scrollWidth;
  }, [cursor, columns.length]);
  useEffect(() => {
    if (cursor !== null && !large) active.current?.focus();
  }, [cursor, large]);

  const move = (event: React.KeyboardEvent) => {
    const [down, right] = MOVES[event.key] ?? [0, 0];
    if (down === 0 && right === 0) return;
    event.preventDefault();
    event.stopPropagation();
    setCursor([clamp(row + down, rows.length), clamp(column + right, columns.length)]);
  };
  const name = (rowAt: number, columnAt: number) =>
    t("watch.preview.label", {
      epoch: serverText(columns[columnAt] ?? ""),
      prompt: rowAt + 1,
    });

  return (
    <section className="previews" aria-label={t("watch.previews")}>
      <header>
        <h3>{t("watch.previews")}</h3>
        {table ? <p className="muted small">{t("watch.open")}</p> : null}
      </header>
      {table ? (
        <div className="preview-grid" ref={grid} onKeyDown={move}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("watch.prompt")}</th>
                {columns.map((value) => (
                  <th key={value} scope="col">
                    {serverText(value)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map((prompt, rowAt) => (
                <tr key={prompt}>
                  <th scope="row" title={prompt}>
                    <span>{prompt}</span>
                  </th>
                  {columns.map((value, columnAt) => {
                    const cell = table.cell(rowAt, columnAt);
                    const isCurrent = rowAt === row && columnAt === column;
                    return (
                      <td key={value}>
                        {cell ? (
                          <button
                            type="button"
                            className="preview"
                            ref={isCurrent ? active : undefined}
                            tabIndex={isCurrent ? 0 : -1}
                            aria-label={name(rowAt, columnAt)}
                            onClick={() => {
                              setCursor([rowAt, columnAt]);
                              setLarge(true);
                            }}
                          >
                            <img src={cellUrl(table.grid, cell, SMALL)} alt="" loading="lazy" />
                          </button>
                        ) : null}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <p className="muted">{table === null ? t("watch.previews.none") : ""}</p>
      )}
      {large && table && current ? (
        <Dialog label={name(row, column)} close={() => setLarge(false)}>
          <div className="preview-large" onKeyDown={move}>
            <img src={cellUrl(table.grid, current)} alt={name(row, column)} />
            <footer>
              <p>
                <b>{serverText(columns[column] ?? "")}</b>{" "}
                <span className="muted">{rows[row]}</span>
              </p>
              <Close close={() => setLarge(false)} primary />
            </footer>
          </div>
        </Dialog>
      ) : null}
    </section>
  );
}

/** The previews of a run, loaded again when it has new ones. undefined: not yet known. */
function usePreviews(run: Run): PreviewTable | null | undefined {
  const studio = useStudio();
  const [table, setTable] = useState<PreviewTable | null | undefined>(undefined);
  const [version, setVersion] = useState(0);
  const again = () => setVersion((before) => before + 1);
  useFiles("outputs", again);
  useFiles("grid", again);
  useEffect(() => {
    let current = true;
    loadPreviews(studio.http, run.id)
      .then((loaded) => current && setTable(loaded))
      .catch((error: unknown) => {
        if (isMissing(error)) setTable(null);
        else studio.fail(error);
      });
    return () => {
      current = false;
    };
  }, [studio, run.id, run.epoch, run.state, version]);
  return table;
}

const MOVES: Readonly<Record<string, readonly [down: number, right: number]>> = {
  ArrowUp: [-1, 0],
  ArrowDown: [1, 0],
  ArrowLeft: [0, -1],
  ArrowRight: [0, 1],
};

function clamp(value: number, count: number): number {
  return Math.max(0, Math.min(count - 1, value));
}
