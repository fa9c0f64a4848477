/** What is done with the images before they are tagged. The originals stay as they are. */

import { useState } from "react";
import { t, tKey } from "../../i18n";
import { useStudioState } from "../../studio/context";
import { PreviewDialog } from "./PreviewDialog";
import type { Concept, PreparePlan, StepName, StepOptions, Steps } from "./shapes";

interface PreparePanelProps {
  readonly concept: Concept;
  readonly steps: Steps;
  readonly setSteps: (steps: Steps) => void;
  readonly plan: PreparePlan | null;
}

interface StepField {
  readonly option: string;
  readonly choices?: readonly string[];
  readonly numeric?: boolean;
}

/** In the order in which they are done, each with its most used option. */
const FIELDS: Readonly<Record<StepName, StepField>> = {
  rename: { option: "prefix" },
  faces: { option: "do", choices: ["crop", "erase"] },
  resize: { option: "max", numeric: true },
  cutout: { option: "bg" },
};
const SHOWN_CHANGES = 8;

/** What a step begins with when it is chosen. */
export function firstOptions(step: StepName, concept: Pick<Concept, "name">): StepOptions {
  const first: Readonly<Record<StepName, StepOptions>> = {
    rename: { prefix: concept.name },
    faces: { do: "crop" },
    resize: { max: 1024 },
    cutout: { bg: "white" },
  };
  return first[step];
}

export function PreparePanel({ concept, steps, setSteps, plan }: PreparePanelProps) {
  const readOnly = useStudioState((state) => state.session.read_only);
  const [previewed, setPreviewed] = useState(false);
  const toggle = (step: StepName) => {
    const { [step]: chosen, ...others } = steps;
    setSteps(chosen ? others : { ...steps, [step]: firstOptions(step, concept) });
  };
  const change = (step: StepName, text: string) => {
    const { option, numeric } = FIELDS[step];
    const value = numeric ? Number(text) : text;
    if (numeric && !(Number.isInteger(value) && Number(value) > 0)) return;
    setSteps({ ...steps, [step]: { ...steps[step], [option]: value } });
  };
  return (
    <section className="prepare" aria-label={t("images.prepare")}>
      <h2 className="section">{t("images.prepare")}</h2>
      {(Object.keys(FIELDS) as StepName[]).map((step) => {
        const { option, choices } = FIELDS[step];
        const value = String(steps[step]?.[option] ?? firstOptions(step, concept)[option] ?? "");
        const label = tKey(`images.step.${step}`);
        return (
          <div key={step} className="prepare-step">
            <label className="checkbox" title={tKey(`images.step.${step}.help`)}>
              <input
                type="checkbox"
                checked={steps[step] !== undefined}
                onChange={() => toggle(step)}
              />
              {label}
            </label>
            {choices ? (
              <select
                aria-label={tKey(`images.step.${step}.option`)}
                value={value}
                disabled={steps[step] === undefined}
                onChange={(event) => change(step, event.target.value)}
              >
                {choices.map((choice) => (
                  <option key={choice} value={choice}>
                    {tKey(`images.faces.${choice}`)}
                  </option>
                ))}
              </select>
            ) : (
              <input
                key={value}
                type="text"
                aria-label={tKey(`images.step.${step}.option`)}
                defaultValue={value}
                disabled={steps[step] === undefined}
                spellCheck={false}
                onBlur={(event) => change(step, event.target.value)}
                onKeyDown={(event) => {
                  if (event.key === "Enter") change(step, event.currentTarget.value);
                }}
              />
            )}
          </div>
        );
      })}
      <button
        type="button"
        disabled={
          readOnly || concept.images === 0 || !(steps.faces || steps.resize || steps.cutout)
        }
        onClick={() => setPreviewed(true)}
      >
        {t("images.preview")}
      </button>
      {previewed ? (
        <PreviewDialog concept={concept} steps={steps} close={() => setPreviewed(false)} />
      ) : null}
      <p className="muted small">{t("images.prepare.originals")}</p>
      {plan && plan.total > 0 ? (
        <details>
          <summary>{t("images.prepare.changes", { n: plan.total })}</summary>
          <ul className="changes">
            {plan.changes.slice(0, SHOWN_CHANGES).map((line) => (
              <li key={line}>{line}</li>
            ))}
            {plan.total > SHOWN_CHANGES ? <li>…</li> : null}
          </ul>
        </details>
      ) : null}
    </section>
  );
}
