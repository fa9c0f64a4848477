/** All findings of one check. */

import { useEffect, useState } from "react";
import { query } from "../../http";
import { t } from "../../i18n";
import { Dialog } from "../../parts/Dialog";
import { useStudio } from "../../studio/context";
import { sourceThumb } from "../images/api";
import type { CheckCard, Finding } from "./shapes";

interface FindingsDialogProps {
  readonly card: CheckCard;
  readonly close: () => void;
}

const MANY = 500;

export function FindingsDialog({ card, close }: FindingsDialogProps) {
  const studio = useStudio();
  const [rows, setRows] = useState<readonly Finding[]>(card.images);
  const [total, setTotal] = useState(card.findings);
  useEffect(() => {
    const url = `api/check/${encodeURIComponent(card.check)}?${query({ offset: 0, limit: MANY })}`;
    studio.http.get<{ readonly total: number; readonly rows: readonly Finding[] }>(url).then(
      (all) => {
        setRows(all.rows);
        setTotal(all.total);
      },
      (error: unknown) => studio.fail(error),
    );
  }, [studio, card.check]);
  return (
    <Dialog label={card.title} close={close}>
      <header>
        <h2>{card.title}</h2>
        <button type="button" onClick={close}>
          {t("close")} <kbd>Esc</kbd>
        </button>
      </header>
      <ul className="findings" tabIndex={0} aria-label={card.title}>
        {rows.map((row, n) => (
          <li key={n}>
            {row.id === null ? (
              <span className="findings-none" />
            ) : (
              <img src={sourceThumb(row.id, row.v)} alt="" loading="lazy" draggable={false} />
            )}
            <span>
              <b>{row.name}</b>
              <span className="muted">{row.reason}</span>
            </span>
          </li>
        ))}
        {total > rows.length ? (
          <li className="muted">{t("check.more", { n: total - rows.length })}</li>
        ) : null}
      </ul>
    </Dialog>
  );
}
