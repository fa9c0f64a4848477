/** What will happen: steps, time, memory, disk; what to look at before; and the start. */

import { bytes, duration, serverText, t } from "../../i18n";
import { numberText, type OptionValue } from "../../parts/options";
import { Primary } from "../../parts/Primary";
import { useStore } from "../../store";
import { useCommand, useStudio, useStudioState } from "../../studio/context";
import { go } from "../../studio/route";
import { fieldOf, type TrainForm } from "./form";
import { diskNeeded, estimatedSeconds, trainedImages, type TrainingPlan } from "./plan";
import { type Planner, stepsOf } from "./planner";
import { useCards } from "./system";

interface PanelProps {
  readonly form: TrainForm;
  readonly planner: Planner;
}

export function PlanPanel({ form, planner }: PanelProps) {
  const state = useStore(planner.store, (state) => state);
  const { plan, problem, planning, warnings } = state;
  const steps = stepsOf(state);
  const seconds = useSeconds(planner);
  return (
    <div className={planning ? "plan-panel planning" : "plan-panel"} aria-busy={planning}>
      <h2>{t("train.plan")}</h2>
      {problem ? (
        <div className="plan-problem" role="alert">
          <b>{t("train.plan.failed")}</b>
          <p>{problem.error}</p>
          {problem.hint ? <p className="muted">{problem.hint}</p> : null}
        </div>
      ) : null}
      {steps !== null && !problem ? (
        <>
          {plan ? <p className="muted">{imagesText(plan)}</p> : null}
          <p className="plan-steps">
            {t("train.plan.steps", { n: steps })}
            {seconds === null ? null : (
              <span className="muted">, {t("train.plan.time", { time: duration(seconds) })}</span>
            )}
          </p>
          {plan ? <Memory plan={plan} form={form} /> : null}
          <h3>{t("train.plan.before")}</h3>
          <Checks plan={plan} before={state.before?.before ?? []} warnings={warnings} />
        </>
      ) : null}
      {steps === null && !problem ? <p className="muted">{t("train.plan.wait")}</p> : null}
    </div>
  );
}

function imagesText(plan: TrainingPlan): string {
  const own = plan.subsets.filter((use) => !use.is_reg);
  const repeats = [...new Set(own.map((use) => use.subset.repeats))];
  const values = {
    images: trainedImages(plan),
    epochs: plan.epochs,
    batch: textOfNumber(plan.options["train_batch_size"]),
  };
  return repeats.length === 1
    ? t("train.plan.images", { ...values, repeats: repeats[0] ?? 1 })
    : t("train.plan.images.plain", values);
}

function textOfNumber(value: OptionValue | undefined): string {
  return typeof value === "number" ? numberText(value) : "1";
}

function Memory({ plan, form }: { readonly plan: TrainingPlan; readonly form: TrainForm }) {
  const cards = useCards();
  const readOnly = useStudioState((state) => state.session.read_only);
  const used = plan.memory_bytes;
  if (used === null) return null;
  const total = cards[0]?.memory ?? null;
  const shares = plan.memory?.shares ?? [];
  const whole = Math.max(total ?? 0, used);
  return (
    <div className="plan-memory">
      <p>
        {total === null
          ? t("train.plan.memory.free", { used: bytes(used) })
          : t("train.plan.memory", { used: bytes(used), total: bytes(total) })}
      </p>
      <div
        className={total !== null && used > total ? "memory-bar over" : "memory-bar"}
        aria-hidden
      >
        {shares.map((share, at) => (
          <span
            key={share.name}
            className={`look-${(at % 8) + 1}`}
            style={{ width: `${((share.bytes / whole) * 100).toFixed(2)}%` }}
          />
        ))}
      </div>
      <ul>
        {shares.map((share, at) => (
          <li key={share.name} title={share.how}>
            <span className={`memory-dot look-${(at % 8) + 1}`} aria-hidden="true" />
            {serverText(share.name)} <span className="muted">{bytes(share.bytes)}</span>
          </li>
        ))}
      </ul>
      {plan.fits.map((fit) => (
        <p key={fit.card} className="plan-fit">
          <span>
            {t("train.plan.fits", { card: fit.card })}{" "}
            {Object.entries(fit.options).map(([name, value]) => (
              <code key={name}>
                {name} = {String(value)}{" "}
              </code>
            ))}
          </span>
          <button
            type="button"
            disabled={readOnly}
            onClick={() => {
              for (const [name, value] of Object.entries(fit.options)) form.set(name, value);
            }}
          >
            {t("train.plan.use")}
          </button>
        </p>
      ))}
    </div>
  );
}

interface ChecksProps {
  readonly plan: TrainingPlan | null;
  /** What runs before the training. */
  readonly before: readonly string[];
  readonly warnings: readonly string[];
}

function Checks({ plan, before, warnings }: ChecksProps) {
  const rows: (readonly [fine: boolean, text: string])[] = [];
  if (before.length > 0) {
    const commands = before.map((verb) => `dsk ${verb}`).join(", ");
    rows.push([true, t("train.plan.first", { commands })]);
  }
  if (plan) rows.push(...checksOf(plan));
  for (const warning of warnings) rows.push([false, serverText(warning)]);
  return (
    <ul className="plan-checks">
      {rows.map(([fine, text]) => (
        <li key={text} className={fine ? "fine" : "look"}>
          <svg width="12" height="12" viewBox="0 0 12 12" aria-hidden="true" focusable="false">
            {fine ? (
              <path
                d="M1.5 6.5 4.7 9.7 10.5 2.8"
                fill="none"
                stroke="currentColor"
                strokeWidth="1.6"
              />
            ) : (
              <path d="M6 1.5 11.2 10.5H.8z" fill="currentColor" />
            )}
          </svg>
          <span>{text}</span>
        </li>
      ))}
    </ul>
  );
}

function checksOf(plan: TrainingPlan): (readonly [fine: boolean, text: string])[] {
  const { missing, empty } = plan.captions;
  const needed = diskNeeded(plan);
  const rows: (readonly [fine: boolean, text: string])[] = [
    missing.length + empty.length > 0
      ? [false, t("train.plan.captions", { missing: missing.length, empty: empty.length })]
      : [true, t("train.plan.captions.fine")],
  ];
  if (plan.disk) {
    const text = t("train.plan.disk", { free: bytes(plan.disk.free), needed: bytes(needed) });
    rows.push([plan.disk.free > needed, text]);
  }
  if (plan.to_download.length) rows.push([false, t("train.plan.download")]);
  return rows;
}

function useSeconds(planner: Planner): number | null {
  const state = useStore(planner.store, (state) => state);
  const { plan, earlier } = state;
  return plan ? estimatedSeconds({ ...plan, steps: stepsOf(state) ?? plan.steps }, earlier) : null;
}

/** The plan in a line, where its column is closed. */
export function PlanSummary({ planner }: { readonly planner: Planner }) {
  const state = useStore(planner.store, (state) => state);
  const { plan, problem } = state;
  const steps = stepsOf(state);
  const seconds = useSeconds(planner);
  const cards = useCards();
  if (problem) return <span className="error-text">{problem.error}</span>;
  if (steps === null) return <span className="muted">{t("train.plan.wait")}</span>;
  const used = plan?.memory_bytes ?? null;
  const total = cards[0]?.memory;
  return (
    <>
      {t("train.plan.steps", { n: steps })}
      {seconds === null ? "" : ` · ${duration(seconds)}`}
      {used === null
        ? ""
        : ` · ${
            total === undefined
              ? t("train.plan.memory.free", { used: bytes(used) })
              : t("train.plan.memory", { used: bytes(used), total: bytes(total) })
          }`}
    </>
  );
}

export function StartActions({ form, planner }: PanelProps) {
  const studio = useStudio();
  const state = useStore(planner.store, (state) => state);
  const steps = stepsOf(state);
  const { invalid, problems, saving } = useStore(form.store, (state) => state);
  const readOnly = useStudioState((state) => state.session.read_only);
  const base = useBase(form);
  const seconds = useSeconds(planner);
  useCommand(state.before?.command ?? "dsk train");
  const wrong = new Set([...invalid, ...Object.keys(problems)]).size;
  const blocked = readOnly
    ? t("train.blocked.readOnly")
    : base === ""
      ? t("train.blocked.base")
      : wrong > 0
        ? t("train.blocked.invalid", { n: wrong })
        : state.problem
          ? t("train.blocked.plan")
          : saving
            ? t("train.blocked.saving")
            : "";
  const start = async (when: "now" | "queue") => {
    // What runs is what the form shows.
    await form.save();
    if (!form.isSaved) return;
    try {
      const { job } = await studio.api.train(when);
      const title = job.title || t("tab.train");
      studio.done(t(when === "now" ? "train.started" : "train.queued", { title }));
      await studio.refresh();
      if (when === "now") go("watch", job.id);
    } catch (error) {
      studio.fail(error);
    }
  };
  const label =
    steps === null
      ? t("train.start.plain")
      : seconds === null
        ? t("train.start", { n: steps })
        : t("train.start.time", { n: steps, time: duration(seconds) });
  return (
    <div className="start-actions">
      <button type="button" disabled={blocked !== ""} onClick={() => void start("queue")}>
        {t("train.queue")}
      </button>
      <Primary label={label} blocked={blocked} onPress={() => void start("now")} />
    </div>
  );
}

function useBase(form: TrainForm): string {
  const { config, edits } = useStore(form.store, (state) => state);
  const option = { name: "pretrained_model_name_or_path", default: "" };
  return String(fieldOf(config, edits, option as Parameters<typeof fieldOf>[2]).value ?? "");
}
