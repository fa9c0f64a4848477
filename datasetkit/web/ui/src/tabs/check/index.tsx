/** The tab Check: what is wrong with the dataset, the worst first, and what fixes it. */

import { useCallback, useEffect, useState } from "react";
import { isMissing } from "../../http";
import { moment, number, serverText, t, tKey } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { Primary } from "../../parts/Primary";
import { WorkArea } from "../../parts/WorkArea";
import { Loading } from "../../parts/Loading";
import { useCommand, useStudio, useStudioState } from "../../studio/context";
import { sourceThumb } from "../images/api";
import "./check.css";
import { FindingsDialog } from "./FindingsDialog";
import { FixDialog } from "./FixDialog";
import { type CheckCard, type CheckReport, inOrder } from "./shapes";

let last: CheckReport | null = null;

export default function Check() {
  const studio = useStudio();
  const project = useStudioState((state) => state.project);
  const [report, setReport] = useState(last);
  const [missing, setMissing] = useState(false);
  const [fixing, setFixing] = useState<readonly CheckCard[] | null>(null);
  const [showing, setShowing] = useState<CheckCard | null>(null);
  last = report;
  useCommand(report?.command ?? "");

  const load = useCallback(async () => {
    try {
      setReport(await studio.http.get<CheckReport>("api/check"));
    } catch (error) {
      if (isMissing(error)) setMissing(true);
      else studio.fail(error);
    }
  }, [studio]);
  useEffect(() => void load(), [load, project]);

  const run = async () => {
    try {
      await studio.api.start({ verb: "check", arguments: ["."] }, "now");
      studio.toast(t("check.started"));
      await studio.refresh();
      await load();
    } catch (error) {
      studio.fail(error);
    }
  };
  if (report === null && !missing) return <Loading />;
  if (report === null || report.images === 0) {
    return (
      <WorkArea>
        <EmptyState
          title={t("check.empty")}
          hint={t("check.empty.hint")}
          question={t("check.question")}
          answer={t("check.answer")}
          next="images"
        />
      </WorkArea>
    );
  }
  const cards = inOrder(report.cards);
  const fixable = cards.filter((card) => card.fixable > 0);
  const fixes = fixable.reduce((sum, card) => sum + card.fixable, 0);
  const runs = report.ran === null || !report.current;
  return (
    <WorkArea
      summary={<Summary report={report} />}
      action={
        runs ? (
          <Primary label={t("check.run", { n: report.images })} onPress={() => void run()} />
        ) : (
          <>
            <button type="button" onClick={() => void run()}>
              {t("check.again")}
            </button>
            <Primary
              label={t("check.fix.all", { n: fixes })}
              done={fixes === 0 ? t("check.fix.none") : ""}
              onPress={() => setFixing(fixable)}
            />
          </>
        )
      }
    >
      <div className="check-tab">
        {report.ran === null ? (
          <EmptyState
            title={t("check.never")}
            hint={t("check.never.hint")}
            question={t("check.question")}
            answer={t("check.answer")}
          />
        ) : null}
        {cards.length === 0 && report.ran !== null ? (
          <div className="empty-state">
            <h2>{t("check.clean")}</h2>
          </div>
        ) : null}
        <ul className="check-cards">
          {cards.map((card) => (
            <li key={card.check} className={`check-card ${card.severity}`}>
              <Card card={card} fix={() => setFixing([card])} show={() => setShowing(card)} />
            </li>
          ))}
        </ul>
      </div>
      {fixing ? <FixDialog cards={fixing} close={() => setFixing(null)} done={load} /> : null}
      {showing ? <FindingsDialog card={showing} close={() => setShowing(null)} /> : null}
    </WorkArea>
  );
}

function Summary({ report }: { readonly report: CheckReport }) {
  if (report.ran === null) return <span>{t("check.never")}</span>;
  return (
    <span className="muted">
      {report.current
        ? t("check.ran", { time: moment(report.ran) })
        : t("check.stale", { time: moment(report.ran) })}{" "}
      {t("check.quiet", { n: report.quiet })}
    </span>
  );
}

interface CardProps {
  readonly card: CheckCard;
  readonly fix: () => void;
  readonly show: () => void;
}

function Card({ card, fix, show }: CardProps) {
  return (
    <>
      <header>
        <span className="check-severity">{tKey(`check.severity.${card.severity}`)}</span>
        <h2>{serverText(card.title)}</h2>
        <span className="number">{number(card.findings)}</span>
      </header>
      <p className="muted">{serverText(card.why)}</p>
      <ul className="check-images">
        {card.images.map((image, n) => (
          <li key={n} title={`${image.name}: ${image.reason}`}>
            {image.id === null ? (
              <span className="check-file">{image.name}</span>
            ) : (
              <img
                src={sourceThumb(image.id, image.v)}
                alt={image.name}
                loading="lazy"
                draggable={false}
              />
            )}
          </li>
        ))}
      </ul>
      <footer>
        {card.findings > 0 ? (
          <button type="button" onClick={show}>
            {t("check.show", { n: card.findings })}
          </button>
        ) : null}
        {card.fixable > 0 ? (
          <button type="button" onClick={fix}>
            {t("check.fix", { n: card.fixable })}
          </button>
        ) : (
          <span className="muted small">{serverText(card.step)}</span>
        )}
      </footer>
    </>
  );
}
