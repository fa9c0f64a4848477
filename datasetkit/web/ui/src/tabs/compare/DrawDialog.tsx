/** What to draw, in plain words, with the number of images and the time before anything starts. */

import { useEffect, useMemo, useState } from "react";
import { ApiError } from "../../http";
import { duration, number, serverText, t } from "../../i18n";
import { CommandLine } from "../../parts/CommandLine";
import { Close, Dialog } from "../../parts/Dialog";
import { useStudio } from "../../studio/context";
import type { DrawPlan, RunFiles } from "./api";
import { around, type Choice, coarse, COARSE, count, gridOptions, spread } from "./drawing";
import type { Grid } from "./shapes";

interface DrawDialogProps {
  readonly runs: readonly RunFiles[];
  readonly grid: Grid | null;
  readonly close: () => void;
}

const WEIGHTS = [0.4, 0.6, 0.8, 1, 1.2];
const DRY_RUN_DELAY = 300;

export function DrawDialog({ runs, grid, close }: DrawDialogProps) {
  const studio = useStudio();
  const [id, setId] = useState(runs[0]?.id ?? "");
  const run = runs.find((item) => item.id === id) ?? runs[0];
  const epochs = run?.epochs ?? [];
  const [choice, setChoice] = useState<Choice>(() => firstChoice(run, grid));
  const [plan, setPlan] = useState<DrawPlan | null>(null);
  const [problem, setProblem] = useState("");
  const options = useMemo(() => gridOptions(choice), [choice]);
  const body = useMemo(
    () => ({ verb: "grid", arguments: [run?.folder ?? "."], options }),
    [run, options],
  );

  useEffect(() => {
    setPlan(null);
    setProblem("");
    if (!body.options) return;
    const stop = new AbortController();
    const timer = setTimeout(() => {
      studio.http.post<DrawPlan>("api/plan", body, stop.signal).then(
        (answer) => {
          setPlan(answer);
          if (answer.error) setProblem(`${answer.error}. ${answer.hint ?? ""}`);
        },
        (error: unknown) => {
          // 409: a newer plan has ended this one.
          if (error instanceof ApiError && error.status !== 409) setProblem(error.message);
          else if (!stop.signal.aborted && !(error instanceof ApiError)) throw error;
        },
      );
    }, DRY_RUN_DELAY);
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [studio, body]);

  const change = (part: Partial<Choice>) => setChoice({ ...choice, ...part });
  const toggle = <T,>(values: readonly T[], all: readonly T[], value: T): readonly T[] =>
    all.filter((item) => (item === value) !== values.includes(item));
  const result = plan?.output?.result;
  const images = result?.drawn.length ?? count(choice, epochs.length);
  const seconds = run?.seconds ? run.seconds * images : null;
  const start = async () => {
    try {
      await studio.http.post("api/jobs", { ...body, when: "queue" });
      studio.done(t("compare.draw.started", { n: images }));
      close();
      await studio.refresh();
    } catch (error) {
      if (error instanceof ApiError) setProblem(`${error.message}. ${error.hint}`);
      else throw error;
    }
  };
  const possible = options !== null && choice.epochs.length > 0 && choice.weights.length > 0;
  const suggested = grid?.scores?.suggestion.label.replace(/^epoch /, "") ?? "";
  return (
    <Dialog label={t("compare.draw.title")} close={close}>
      <header>
        <h2>{t("compare.draw.title")}</h2>
        {runs.length > 1 ? (
          <select
            aria-label={t("compare.draw.run")}
            value={id}
            onChange={(event) => {
              setId(event.target.value);
              setChoice(
                firstChoice(
                  runs.find((item) => item.id === event.target.value),
                  null,
                ),
              );
            }}
          >
            {runs.map((item) => (
              <option key={item.id} value={item.id}>
                {item.name}
              </option>
            ))}
          </select>
        ) : null}
      </header>
      <fieldset className="draw-choice">
        <legend>{t("compare.draw.epochs")}</legend>
        {epochs.map((epoch) => (
          <button
            key={epoch}
            type="button"
            aria-pressed={choice.epochs.includes(epoch)}
            onClick={() => change({ epochs: toggle(choice.epochs, epochs, epoch) })}
          >
            {serverText(epoch)}
          </button>
        ))}
        <span className="draw-more">
          <button
            type="button"
            className="plain"
            onClick={() => change({ epochs: spread(epochs, COARSE) })}
          >
            {t("compare.draw.coarse")}
          </button>
          <button type="button" className="plain" onClick={() => change({ epochs })}>
            {t("compare.draw.all")}
          </button>
          {epochs.includes(suggested) ? (
            <button
              type="button"
              className="plain"
              onClick={() => change({ epochs: around(epochs, choice.epochs, suggested) })}
            >
              {t("compare.draw.around", { label: suggested })}
            </button>
          ) : null}
        </span>
      </fieldset>
      <fieldset className="draw-choice">
        <legend>{t("compare.draw.weights")}</legend>
        {WEIGHTS.map((weight) => (
          <button
            key={weight}
            type="button"
            aria-pressed={choice.weights.includes(weight)}
            onClick={() => change({ weights: toggle(choice.weights, WEIGHTS, weight) })}
          >
            {number(weight)}
          </button>
        ))}
      </fieldset>
      <fieldset className="draw-choice">
        <legend>{t("compare.draw.seeds")}</legend>
        {[1, 2, 4, 8].map((seeds) => (
          <button
            key={seeds}
            type="button"
            aria-pressed={choice.seeds === seeds}
            onClick={() => change({ seeds })}
          >
            {number(seeds)}
          </button>
        ))}
        <span className="muted">{t("compare.draw.prompts", { n: choice.prompts })}</span>
      </fieldset>
      <label className="checkbox">
        <input
          type="checkbox"
          checked={choice.score}
          onChange={(event) => change({ score: event.target.checked })}
        />
        {t("compare.draw.score")}
      </label>
      <div className="draw-plan" role="status">
        {options === null ? <p className="error-text">{t("compare.draw.axes")}</p> : null}
        {problem ? <p className="error-text">{problem}</p> : null}
        {plan?.output?.warnings.map((warning) => (
          <p key={warning} className="warn-text">
            {warning}
          </p>
        ))}
        {plan ? <CommandLine command={plan.command} /> : null}
      </div>
      <footer>
        <button
          type="button"
          className="primary"
          disabled={!possible || problem !== ""}
          onClick={() => void start()}
        >
          {seconds === null
            ? t("compare.draw.start", { n: images })
            : t("compare.draw.start.time", { n: images, time: duration(seconds) })}
        </button>
        <Close close={close} cancel />
      </footer>
    </Dialog>
  );
}

/** A coarse grid at first; then the files that are drawn already. */
function firstChoice(run: RunFiles | undefined, grid: Grid | null): Choice {
  const epochs = run?.epochs ?? [];
  const choice = coarse(epochs, run?.prompts ?? 1);
  const labels = grid?.axes.find((axis) => axis.name === "epoch")?.values ?? [];
  const drawn = epochs.filter(
    (epoch) => labels.includes(`epoch ${epoch}`) || labels.includes(epoch),
  );
  return grid?.kind === "grid" && drawn.length > 0 ? { ...choice, epochs: drawn } : choice;
}
