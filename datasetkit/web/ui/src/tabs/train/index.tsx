/** The tab Train: ten options in the same order for every goal, all others by search, and what will
 * happen. Every valid edit is in dsk.toml a moment later. */

import "./style.css";
import { useEffect } from "react";
import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";
import { Store, useStore } from "../../store";
import type { Presets, Schema } from "../../studio/api";
import { useFiles, useStudio, useStudioState } from "../../studio/context";
import type { Studio } from "../../studio/studio";
import { AllOptions } from "./AllOptions";
import { ConflictDialog } from "./ConflictDialog";
import { TrainForm } from "./form";
import { GoalBar } from "./GoalBar";
import { PlanPanel, PlanSummary, StartActions } from "./PlanPanel";
import { Planner } from "./planner";
import { TenOptions } from "./TenOptions";

interface Parts {
  readonly form: TrainForm;
  readonly planner: Planner;
  readonly loaded: Store<Loaded>;
}

interface Loaded {
  readonly schema: Schema | null;
  readonly presets: Presets | null;
}

/** The form outlives the tab: an edit that is not valid yet is still there on return. */
let parts: Parts | null = null;

function partsOf(studio: Studio): Parts {
  if (parts) return parts;
  const planner = new Planner(studio.api);
  const form = new TrainForm(
    studio.api,
    (error) => studio.fail(error),
    () => planner.plan(),
  );
  const loaded = new Store<Loaded>({ schema: null, presets: null });
  parts = { form, planner, loaded };
  void form.load();
  studio.api
    .schema()
    .then((schema) => loaded.set({ schema }))
    .catch((error: unknown) => studio.fail(error));
  studio.api
    .presets()
    .then((presets) => loaded.set({ presets }))
    .catch((error: unknown) => studio.fail(error));
  return parts;
}

export default function Train() {
  const studio = useStudio();
  const { form, planner, loaded } = partsOf(studio);
  const images = useStudioState((state) => state.project?.images.total ?? 0);
  const hash = useStudioState((state) => state.project?.config.hash);
  const config = useStore(form.store, (state) => state.config);
  const conflict = useStore(form.store, (state) => state.conflict);
  const { schema, presets } = useStore(loaded, (state) => state);
  // Another program or another tab wrote dsk.toml.
  useEffect(() => void form.reload(hash), [form, hash]);
  useEffect(() => planner.plan(), [planner, images]);
  useFiles("config", () => planner.plan());
  useFiles("captions", () => planner.plan());
  useFiles("history", () => planner.plan()); // laid out, for example

  if (images === 0 && config?.exists !== true) {
    return (
      <WorkArea>
        <EmptyState
          title={t("train.empty")}
          hint={t("train.empty.hint")}
          question={t("train.question")}
          answer={t("train.answer")}
          next="images"
        />
      </WorkArea>
    );
  }
  if (!config || !schema) return <WorkArea>{null}</WorkArea>;
  const options = schema.tables["train"] ?? [];
  return (
    <WorkArea
      right={<PlanPanel form={form} planner={planner} />}
      rightLabel={t("train.plan")}
      summary={<PlanSummary planner={planner} />}
      action={<StartActions form={form} planner={planner} />}
    >
      <div className="train">
        {config.problem ? (
          <p className="train-problem">{t("train.problem", { error: config.problem.error })}</p>
        ) : null}
        <GoalBar
          form={form}
          planner={planner}
          presets={presets}
          options={options}
          presetsChanged={(now) => loaded.set({ presets: now })}
        />
        <TenOptions form={form} planner={planner} presets={presets} options={options} />
        <AllOptions form={form} planner={planner} options={options} />
      </div>
      {conflict ? <ConflictDialog form={form} differences={conflict} options={options} /> : null}
    </WorkArea>
  );
}
