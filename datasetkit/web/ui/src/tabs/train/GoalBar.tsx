/** What is trained, and the preset that follows from it. */

import { t, tKey } from "../../i18n";
import type { OptionInfo } from "../../parts/options";
import { useStore } from "../../store";
import type { Presets } from "../../studio/api";
import { useStudioState } from "../../studio/context";
import {
  countChanged,
  formatPreset,
  NO_PRESET,
  OWN,
  type PresetName,
  parsePreset,
  type TrainForm,
} from "./form";
import { OwnPresets } from "./OwnPresets";
import type { Planner } from "./planner";

interface GoalBarProps {
  readonly form: TrainForm;
  readonly planner: Planner;
  readonly presets: Presets | null;
  readonly options: readonly OptionInfo[];
  readonly presetsChanged: (presets: Presets) => void;
}

export function presetParts(presets: Presets | null) {
  const names = (parts: readonly { readonly name: string }[] | undefined) =>
    (parts ?? []).map(({ name }) => name);
  return {
    families: names(presets?.families),
    goals: names(presets?.goals),
    memory: names(presets?.memory),
  };
}

/** The preset that dsk.toml names, or that an edit has chosen. */
export function usePreset(form: TrainForm, presets: Presets | null): PresetName {
  const { config, edits } = useStore(form.store, (state) => state);
  const name = "preset" in edits ? edits["preset"] : config?.tables["train"]?.["preset"];
  return parsePreset(name, presetParts(presets));
}

/** The family until a base model is chosen. */
const USUAL = "sdxl";

export function choosePreset(form: TrainForm, name: PresetName): void {
  const text = formatPreset(name);
  if (text === "") form.reset("preset");
  else form.set("preset", text);
  void form.save();
}

export function GoalBar({ form, planner, presets, options, presetsChanged }: GoalBarProps) {
  const { config, edits, saving, invalid } = useStore(form.store, (state) => state);
  const family = useStore(planner.store, (state) => state.plan?.model.family ?? "");
  const readOnly = useStudioState((state) => state.session.read_only);
  const preset = usePreset(form, presets);
  const parts = presetParts(presets);
  const changed = countChanged(config, edits, options);
  const title = (name: string) =>
    presets?.families.find((part) => part.name === name)?.title ?? name;
  const pending = Object.keys(edits).length > 0;
  const status = saving
    ? t("train.saving")
    : pending || invalid.size > 0
      ? t("train.unsaved")
      : t("train.saved");
  return (
    <div className="train-goal">
      <div className="train-goal-row" role="radiogroup" aria-label={t("train.goal")}>
        <span className="train-goal-label" aria-hidden="true">
          {t("train.goal")}
        </span>
        <span className="segments">
          {(parts.goals.length ? parts.goals : ["character"]).map((goal) => (
            <button
              key={goal}
              type="button"
              role="radio"
              aria-checked={preset.goal === goal}
              className={preset.goal === goal ? "chosen" : ""}
              disabled={readOnly || !presets}
              onClick={() =>
                choosePreset(form, { ...preset, goal, family: preset.family || family || USUAL })
              }
            >
              {tKey(`train.goal.${goal}`)}
            </button>
          ))}
        </span>
        <label className="train-preset">
          {t("train.preset")}{" "}
          <select
            value={preset.family}
            disabled={readOnly || !presets}
            onChange={(event) => {
              const { value } = event.target;
              choosePreset(form, value === "" ? NO_PRESET : { ...preset, family: value });
            }}
          >
            <option value="">{t("train.preset.none")}</option>
            {presets?.families.map(({ name, title: shown }) => (
              <option key={name} value={name}>
                {preset.goal ? `${shown} · ${tKey(`train.goal.${preset.goal}`)}` : shown}
              </option>
            ))}
          </select>
        </label>
        <OwnPresets form={form} presets={presets} options={options} changed={presetsChanged} />
        <span className="muted">{t("train.differ", { n: changed })}</span>
        {changed > 0 ? (
          <button
            type="button"
            className="plain"
            disabled={readOnly}
            onClick={() => {
              const stored = Object.keys(config?.tables["train"] ?? {});
              for (const name of stored) if (!OWN.includes(name)) form.reset(name);
            }}
          >
            {t("train.resetAll")}
          </button>
        ) : null}
        <span className="train-status muted small" role="status">
          {status}
        </span>
      </div>
      {family && preset.family && family !== preset.family && parts.families.includes(family) ? (
        <p className="train-mismatch">
          {t("train.preset.family", { family: title(family) })}{" "}
          <button
            type="button"
            disabled={readOnly}
            onClick={() => choosePreset(form, { ...preset, family })}
          >
            {t("train.preset.use", { name: title(family) })}
          </button>
        </p>
      ) : null}
    </div>
  );
}
