/** The ten options that decide most of the result. */

import { type ReactNode, useId, useMemo, useState } from "react";
import { Icon } from "../../components/Icon";
import { bytes, number, percent, t } from "../../i18n";
import { type OptionInfo, rangeText, textOf } from "../../parts/options";
import { Control } from "../../parts/SchemaField";
import { useStore } from "../../store";
import type { Presets } from "../../studio/api";
import { useStudioState } from "../../studio/context";
import { formatRoute } from "../../studio/route";
import { BaseDialog } from "./BaseDialog";
import { FindRate } from "./FindRate";
import { fieldOf, isChanged, OWN, type TrainForm } from "./form";
import { choosePreset, presetParts, usePreset } from "./GoalBar";
import { allSamples, cropped, enlarged, type TrainingPlan, USUAL_SAMPLES } from "./plan";
import type { Planner } from "./planner";

interface TenOptionsProps {
  readonly form: TrainForm;
  readonly planner: Planner;
  readonly presets: Presets | null;
  readonly options: readonly OptionInfo[];
}

export function TenOptions({ form, planner, presets, options }: TenOptionsProps) {
  const plan = useStore(planner.store, (state) => state.plan);
  const preset = usePreset(form, presets);
  const family = plan?.model.family ?? preset.family;
  const byName = useMemo(() => new Map(options.map((option) => [option.name, option])), [options]);
  const field = (name: string, label = name, wide = false) => {
    const option = byName.get(name);
    return option ? (
      <Field key={name} form={form} option={option} label={label} family={family} wide={wide} />
    ) : null;
  };
  const usual = (name: string) => usualOf(byName.get(name), family);
  const { config, edits } = useStore(form.store, (state) => state);
  const valueOf = (name: string) => {
    const option = byName.get(name);
    return option ? fieldOf(config, edits, option).value : null;
  };
  const base = String(valueOf("pretrained_model_name_or_path") ?? "");
  // It counts in place of the learning rate, e.g. after a search.
  const ownRate = valueOf("unet_lr");
  const hasTextEncoder = appliesTo(byName.get("text_encoder_lr"), family);
  return (
    <ol className="ten">
      <Row label={t("train.slot.base")} note={plan ? modelNote(plan) : null}>
        {field("pretrained_model_name_or_path", t("train.slot.base"), true)}
        <ChooseBase form={form} base={base} />
      </Row>
      <Row label={t("train.slot.trigger")} note={<TriggerNote />}>
        {field("keep_tokens", t("train.keep"))}
        {field("shuffle_caption", t("train.shuffle"))}
      </Row>
      <Row
        label={t("train.slot.length")}
        note={plan ? lengthNote(plan, USUAL_SAMPLES[preset.goal]) : null}
      >
        {field("max_train_epochs", t("train.epochs"))}
      </Row>
      <Row label={t("train.slot.size")} note={plan ? sizeNote(plan) : usual("resolution")}>
        {field("resolution", t("train.slot.size"))}
      </Row>
      <Row
        label={t("train.slot.rank")}
        note={
          plan?.disk ? t("train.note.file", { size: bytes(plan.disk.lora) }) : usual("network_dim")
        }
      >
        {field("network_dim", t("train.slot.rank"))}
        {field("network_alpha", t("train.alpha"))}
      </Row>
      <Row label={t("train.slot.rate")} note={usual("learning_rate")}>
        {field("learning_rate", t("train.slot.rate"))}
        {ownRate === null ? null : field("unet_lr")}
        <FindRate form={form} planner={planner} base={base} />
      </Row>
      <Row
        label={t("train.slot.text")}
        note={hasTextEncoder ? usual("text_encoder_lr") : t("train.note.noTextEncoder")}
      >
        {hasTextEncoder ? field("text_encoder_lr", t("train.slot.text")) : null}
      </Row>
      <Row label={t("train.slot.batch")} note={usual("train_batch_size")}>
        {field("train_batch_size", t("train.slot.batch"))}
        {field("gradient_accumulation_steps", t("train.accumulation"))}
      </Row>
      <Row label={t("train.slot.memory")} note={null}>
        <MemoryChoice form={form} presets={presets} />
        {field("mixed_precision", t("train.precision"))}
        {field("base_precision", t("train.basePrecision"))}
        {field("gradient_checkpointing", t("train.checkpointing"))}
      </Row>
      <Row label={t("train.slot.previews")} note={t("train.note.prompts")}>
        {field("sample_prompts", t("train.slot.previews"))}
        {field("sample_every_n_epochs", t("train.drawEvery"))}
        {field("save_every_n_epochs", t("train.saveEvery"))}
      </Row>
    </ol>
  );
}

function ChooseBase({ form, base }: { readonly form: TrainForm; readonly base: string }) {
  const [open, setOpen] = useState(false);
  const readOnly = useStudioState((state) => state.session.read_only);
  const choose = (value: string) => {
    form.set("pretrained_model_name_or_path", value);
    void form.save();
  };
  return (
    <>
      <button type="button" disabled={readOnly} onClick={() => setOpen(true)}>
        {t("choose")}
      </button>
      {open ? <BaseDialog value={base} choose={choose} close={() => setOpen(false)} /> : null}
    </>
  );
}

interface RowProps {
  readonly label: string;
  readonly note: ReactNode;
  readonly children: ReactNode;
}

function Row({ label, note, children }: RowProps) {
  return (
    <li className="ten-row">
      <span className="ten-label">{label}</span>
      <span className="ten-fields">{children}</span>
      <span className="ten-note muted">{note}</span>
    </li>
  );
}

interface FieldProps {
  readonly form: TrainForm;
  readonly option: OptionInfo;
  readonly label: string;
  readonly family: string;
  readonly wide: boolean;
}

function Field({ form, option, label, family, wide }: FieldProps) {
  const id = useId();
  const config = useStore(form.store, (state) => state.config);
  const edits = useStore(form.store, (state) => state.edits);
  const problem = useStore(form.store, (state) => state.problems[option.name]);
  const readOnly = useStudioState((state) => state.session.read_only);
  const shown = fieldOf(config, edits, option);
  const changed = isChanged(shown) && !OWN.includes(option.name);
  const base = textOf(shown.base) || t("none");
  const help = [option.name, option.help, usualOf(option, family) ?? ""].filter(Boolean);
  return (
    <span
      className={["ten-field", wide ? "wide" : "", changed ? "changed" : ""].join(" ")}
      title={help.join("\n")}
    >
      <label htmlFor={id}>{label}</label>
      <Control
        id={id}
        option={option}
        value={shown.value}
        readOnly={readOnly}
        problem={problem ?? ""}
        onChange={(value) => form.set(option.name, value)}
        onInvalid={(invalid) => form.setInvalid(option.name, invalid)}
      />
      {changed ? (
        <button
          type="button"
          className="ten-reset"
          disabled={readOnly}
          title={t("reset.to", { value: base })}
          aria-label={`${label}: ${t("reset.to", { value: base })}`}
          onClick={() => form.reset(option.name)}
        >
          <Icon name="reset" /> {base}
        </button>
      ) : null}
    </span>
  );
}

function MemoryChoice({
  form,
  presets,
}: {
  readonly form: TrainForm;
  readonly presets: Presets | null;
}) {
  const preset = usePreset(form, presets);
  const readOnly = useStudioState((state) => state.session.read_only);
  const { memory } = presetParts(presets);
  if (memory.length === 0) return null;
  // Without a choice, the first one counts: the preset as it is.
  const choices = memory.includes("roomy") ? memory : ["roomy", ...memory];
  return (
    <span className="segments" role="radiogroup" aria-label={t("train.slot.memory")}>
      {choices.map((choice) => {
        const chosen = (preset.memory || "roomy") === choice;
        return (
          <button
            key={choice}
            type="button"
            role="radio"
            aria-checked={chosen}
            className={chosen ? "chosen" : ""}
            disabled={readOnly || preset.family === ""}
            onClick={() =>
              choosePreset(form, { ...preset, memory: choice === "roomy" ? "" : choice })
            }
          >
            {t(`train.memory.${choice}` as "train.memory.tight")}
          </button>
        );
      })}
    </span>
  );
}

function TriggerNote() {
  const session = useStudioState((state) => state.session);
  const captions = useStudioState((state) => state.project?.captions);
  const words = session.trigger ?? [];
  if (words.length === 0) {
    return <a href={formatRoute("captions")}>{t("train.note.noTrigger")}</a>;
  }
  return (
    <>
      {t("train.note.trigger", {
        words: words.join(", "),
        n: (captions?.captioned ?? 0) - (captions?.without_trigger ?? 0),
        total: captions?.captioned ?? 0,
      })}
    </>
  );
}

function modelNote(plan: TrainingPlan): string {
  const { family, prediction } = plan.model;
  return [family, prediction].filter(Boolean).join(" · ");
}

function lengthNote(plan: TrainingPlan, usual: readonly [number, number] | undefined): ReactNode {
  const text = t("train.note.length", { n: plan.totals.samples, total: allSamples(plan) });
  if (!usual) return text;
  return `${text} · ${t("field.usual", { from: number(usual[0]), to: number(usual[1]) })}`;
}

function sizeNote(plan: TrainingPlan): ReactNode {
  const larger = enlarged(plan);
  return (
    <>
      {t("train.note.buckets", { n: plan.buckets.length })} ·{" "}
      {t("train.note.cut", { share: percent(cropped(plan)) })}
      {larger > 0 ? (
        <>
          {" "}
          · <a href={formatRoute("plan")}>{t("train.note.enlarged", { n: larger })}</a>
        </>
      ) : null}
    </>
  );
}

function usualOf(option: OptionInfo | undefined, family: string): string | null {
  const usual = option?.usual[family];
  if (!usual) return null;
  const [from, to] = usual;
  if (from === 0 && to === 0) return `${t("train.note.off")} · ${family}`;
  return t("field.usual", rangeText(usual));
}

function appliesTo(option: OptionInfo | undefined, family: string): boolean {
  return !option || option.families.length === 0 || !family || option.families.includes(family);
}
