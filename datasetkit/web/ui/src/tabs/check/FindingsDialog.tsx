/** All findings of one check. */

import { useEffect, useState } from "react";
import { query } from "../../http";
import { serverText, t } from "../../i18n";
import { Close, Dialog } from "../../parts/Dialog";
import { useStudio } from "../../studio/context";
import { sourceThumb } from "../images/api";
import type { CheckCard, Finding } from "./shapes";

interface FindingsDialogProps {
  readonly card: CheckCard;
  readonly close: () => void;
}

const SHOWN = 500;

export function FindingsDialog({ card, close }: FindingsDialogProps) {
  const studio = useStudio();
  const [rows, setRows] = useState<readonly Finding[]>(card.images);
  useEffect(() => {
    studio.http
      .get<{ readonly findings: readonly Finding[] }>(
        `api/check/findings?${query({ check: card.check })}`,
      )
      .then(
        (all) => setRows(all.findings),
        (error: unknown) => studio.fail(error),
      );
  }, [studio, card.check]);
  const title = serverText(card.title);
  return (
    <Dialog label={title} close={close}>
      <header>
        <h2>{title}</h2>
        <Close close={close} />
      </header>
      <ul className="findings" tabIndex={0} aria-label={title}>
        {rows.slice(0, SHOWN).map((row, n) => (
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
        {rows.length > SHOWN ? (
          <li className="muted">{t("check.more", { n: rows.length - SHOWN })}</li>
        ) : null}
      </ul>
    </Dialog>
  );
}
