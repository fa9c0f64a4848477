/** What a fix would change, as a list, before anything is changed. */

import { useEffect, useState } from "react";
import { ApiError } from "../../http";
import { serverText, t } from "../../i18n";
import { CommandLine } from "../../parts/CommandLine";
import { Close, Dialog } from "../../parts/Dialog";
import { useStudio } from "../../studio/context";
import type { CheckCard, FixPlan } from "./shapes";

interface FixDialogProps {
  readonly cards: readonly CheckCard[];
  readonly close: () => void;
  readonly done: () => Promise<void>;
}

export function FixDialog({ cards, close, done }: FixDialogProps) {
  const studio = useStudio();
  const [plan, setPlan] = useState<FixPlan | null>(null);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const checks = cards.map((card) => card.check);

  const send = (dryRun: boolean): Promise<FixPlan> =>
    studio.http.post<FixPlan>("api/check/fix", { checks, dry_run: dryRun });
  const fail = (error: unknown) => {
    if (!(error instanceof ApiError)) throw error;
    setProblem(`${error.message}. ${error.hint}`);
  };
  useEffect(() => {
    send(true).then(setPlan, fail);
  }, []);
  const start = async () => {
    setBusy(true);
    try {
      const result = await send(false);
      studio.done(t("check.fixed", { n: result.count }), result.entry !== null);
      close();
      await done();
      await studio.refresh();
    } catch (error) {
      fail(error);
      setBusy(false);
    }
  };
  const title = cards.length === 1 ? serverText(cards[0]?.title ?? "") : t("check.fix.title");
  return (
    <Dialog label={title} close={close}>
      <header>
        <h2>{title}</h2>
        <p className="muted">{t("check.fix.dryRun")}</p>
      </header>
      {problem ? (
        <p className="error-text" role="alert">
          {problem}
        </p>
      ) : null}
      {!plan && !problem ? <p className="muted">{t("loading")}</p> : null}
      {plan ? (
        <>
          <ul className="changes" tabIndex={0} aria-label={t("check.changes")}>
            {plan.changes.map((change, n) => (
              <li key={n}>{change}</li>
            ))}
            {plan.count > plan.changes.length ? (
              <li>{t("check.more", { n: plan.count - plan.changes.length })}</li>
            ) : null}
          </ul>
          {plan.command ? <CommandLine command={plan.command} /> : null}
        </>
      ) : null}
      <footer>
        <button
          type="button"
          className="primary"
          disabled={!plan || plan.count === 0 || busy}
          onClick={() => void start()}
        >
          {t("check.fix.start", { n: plan?.count ?? 0 })}
        </button>
        <Close close={close} cancel />
      </footer>
    </Dialog>
  );
}
