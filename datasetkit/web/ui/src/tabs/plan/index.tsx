/** The tab Plan: what is trained how often, what is cut off, and whether it fits in memory. */

import { useCallback, useEffect, useState } from "react";
import { ApiError } from "../../http";
import { bytes, number, percent, serverText, t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { ImageGrid } from "../../parts/ImageGrid";
import { Primary } from "../../parts/Primary";
import { Windows } from "../../parts/windows";
import { WorkArea } from "../../parts/WorkArea";
import { Loading } from "../../parts/Loading";
import { useCommand, useStudio, useStudioState } from "../../studio/context";
import { sourceThumb } from "../images/api";
import { hasEnded, loadPlan, loadPlannedImages, setRepeats, startLayout, startReg } from "./api";
import "./plan.css";
import {
  cutShare,
  imageBox,
  keptBox,
  type LayoutPlan,
  MUCH_ENLARGED,
  type PlannedConcept,
  type PlannedImage,
} from "./shapes";

let last: LayoutPlan | null = null;

export default function Plan() {
  const studio = useStudio();
  const project = useStudioState((state) => state.project);
  const readOnly = useStudioState((state) => state.session.read_only);
  const [plan, setPlan] = useState(last);
  const [problem, setProblem] = useState<ApiError | null>(null);
  const [list, setList] = useState<Windows<PlannedImage> | null>(null);
  const [, setRevision] = useState(0);
  const [cursor, setCursor] = useState(0);
  last = plan;
  useCommand(plan?.command ?? "");

  const load = useCallback(async () => {
    const images = (offset: number, limit: number) => loadPlannedImages(studio.http, offset, limit);
    try {
      const [loaded, first] = await Promise.all([loadPlan(studio.http), images(0, 500)]);
      setPlan(loaded);
      setProblem(null);
      setList(new Windows(first, images, () => setRevision((n) => n + 1)));
    } catch (error) {
      // Without images there is nothing to plan: this is expected.
      if (error instanceof ApiError && [400, 404].includes(error.status)) setProblem(error);
      else studio.fail(error);
    }
  }, [studio]);
  useEffect(() => void load(), [load, project]);

  const at = useCallback(
    (index: number) => {
      const image = list?.at(index);
      return (
        image && {
          key: image.id,
          src: sourceThumb(image.id, image.v),
          name: image.name,
          badge: badge(image),
          over: <Cut image={image} />,
        }
      );
    },
    [list],
  );
  const need = useCallback((from: number, to: number) => list?.need(from, to), [list]);
  const change = async (concept: PlannedConcept, repeats: number) => {
    if (concept.id === null) return;
    try {
      await setRepeats(studio.http, concept.id, repeats);
      await load();
    } catch (error) {
      studio.fail(error);
    }
  };
  const start = async () => {
    try {
      const started = await startLayout(studio.http);
      studio.toast(t("plan.started"));
      await studio.refresh();
      if (!plan?.balance) return;
      // The repeats of regularisation images follow from the folders of the training.
      if (await hasEnded(studio.http, started)) await startReg(studio.http);
      await studio.refresh();
    } catch (error) {
      studio.fail(error);
    }
  };
  if (plan === null && problem === null) return <Loading />;
  if (plan === null || problem !== null || plan.concepts.length === 0) {
    const images = project?.images?.total ?? 0;
    return (
      <WorkArea>
        <EmptyState
          title={problem && images > 0 ? problem.message : t("plan.empty")}
          hint={problem && images > 0 ? problem.hint : t("plan.empty.hint")}
          question={t("plan.question")}
          answer={t("plan.answer")}
          next="images"
        />
      </WorkArea>
    );
  }
  const images = plan.concepts.reduce((sum, concept) => sum + concept.images, 0);
  return (
    <WorkArea
      left={<Concepts plan={plan} change={readOnly ? null : change} />}
      right={<Facts plan={plan} />}
      rightLabel={t("plan.facts")}
      summary={
        <span>
          {t("plan.steps", { n: plan.steps })}
          {plan.memory
            ? ` · ${t("plan.memory.of", { need: bytes(plan.memory.need), have: bytes(plan.memory.have) })}`
            : ""}
        </span>
      }
      action={
        <Primary
          label={t("plan.layout", { n: images })}
          blocked={readOnly ? t("images.prepare.readOnly") : ""}
          done={plan.current ? t("plan.current") : ""}
          onPress={() => void start()}
        />
      }
    >
      <div className="images-main">
        <div className="images-bar">
          <span>{t("plan.cut", { share: percent(plan.cut) })}</span>
          {plan.enlarged > 0 ? (
            <span className="warn-text">▲ {t("plan.enlarged", { n: plan.enlarged })}</span>
          ) : null}
          <span className="muted">{t("plan.worst")}</span>
        </div>
        <ImageGrid
          count={list?.total ?? 0}
          at={at}
          need={need}
          cursor={cursor}
          moveTo={setCursor}
          minWidth={184}
          aspect={1}
          label={t("plan.images")}
        />
      </div>
    </WorkArea>
  );
}

function badge(image: PlannedImage): string {
  if (image.scale > 1) return t("plan.scale", { scale: number(Math.round(image.scale * 10) / 10) });
  const cut = cutShare(image);
  return cut >= 0.005 ? t("plan.cutOff", { share: percent(cut) }) : "";
}

/** The part of an image that is trained; what is cut off is dark. */
function Cut({ image }: { readonly image: PlannedImage }) {
  const share = (value: number): string => `${value * 100}%`;
  const box = imageBox(image.w, image.h);
  const kept = keptBox(image);
  return (
    <span
      className="plan-cut"
      style={{
        left: share(box.left),
        top: share(box.top),
        width: share(box.width),
        height: share(box.height),
      }}
    >
      <span
        className={image.scale > MUCH_ENLARGED ? "plan-kept enlarged" : "plan-kept"}
        style={{
          left: share(kept.left),
          top: share(kept.top),
          width: share(kept.width),
          height: share(kept.height),
        }}
      />
    </span>
  );
}

interface ConceptsProps {
  readonly plan: LayoutPlan;
  readonly change: ((concept: PlannedConcept, repeats: number) => Promise<void>) | null;
}

function Concepts({ plan, change }: ConceptsProps) {
  return (
    <section className="plan-concepts" aria-label={t("images.concepts")}>
      <h2 className="section">{t("images.concepts")}</h2>
      {plan.concepts.map((concept) => (
        <div key={concept.name} className="plan-concept">
          <b>
            {concept.name}
            {concept.kind === "reg" ? <span className="muted"> {t("images.reg")}</span> : null}
          </b>
          <span className="muted">{t("images.count", { n: concept.images })}</span>
          <label>
            <span>{t("plan.repeats")}</span>
            <input
              key={concept.repeats}
              type="text"
              inputMode="numeric"
              defaultValue={concept.repeats}
              disabled={change === null || concept.id === null || concept.kind === "reg"}
              onBlur={(event) => {
                const repeats = Number(event.target.value);
                const valid = Number.isInteger(repeats) && repeats > 0;
                if (valid && repeats !== concept.repeats) void change?.(concept, repeats);
                else event.target.value = String(concept.repeats);
              }}
              onKeyDown={(event) => {
                if (event.key === "Enter") event.currentTarget.blur();
              }}
            />
          </label>
          <span className="muted">{t("plan.samples", { n: concept.samples })}</span>
        </div>
      ))}
      <p className="plan-total">
        <b>{t("plan.steps", { n: plan.steps })}</b>
        <span className="muted">
          {t("plan.how", {
            epochs: number(plan.epochs),
            batch: number(plan.batch * plan.accumulation),
          })}
        </span>
      </p>
      <ul className="muted small">
        {plan.advice.map((line) => (
          <li key={line}>{serverText(line)}</li>
        ))}
      </ul>
    </section>
  );
}

function Facts({ plan }: { readonly plan: LayoutPlan }) {
  const most = Math.max(1, ...plan.buckets.map((bucket) => bucket.images));
  return (
    <div className="plan-facts">
      <section>
        <h2 className="section">{t("plan.buckets")}</h2>
        <table>
          <tbody>
            {plan.buckets.map((bucket) => (
              <tr key={`${bucket.w}x${bucket.h}`}>
                <th scope="row">
                  {bucket.w} × {bucket.h}
                </th>
                <td className="plan-bar">
                  <span style={{ width: `${(bucket.images / most) * 100}%` }} />
                </td>
                <td className="number">{number(bucket.images)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      {plan.balance ? (
        <section>
          <h2 className="section">{t("plan.balance")}</h2>
          <p>
            {t("plan.balance.text", {
              train: number(plan.balance.train),
              reg: number(plan.balance.reg),
            })}
          </p>
        </section>
      ) : null}
      {plan.memory ? (
        <section>
          <h2 className="section">{t("plan.memory")}</h2>
          <p className={plan.memory.fits ? "" : "error-text"}>
            {t("plan.memory.of", { need: bytes(plan.memory.need), have: bytes(plan.memory.have) })}
            {plan.memory.fits ? "" : ` ${t("plan.memory.short")}`}
          </p>
          <table>
            <tbody>
              {plan.memory.parts.map((part) => (
                <tr key={part.name}>
                  <th scope="row">{part.name}</th>
                  <td className="plan-bar">
                    <span
                      style={{ width: `${(part.bytes / Math.max(1, plan.memory!.need)) * 100}%` }}
                    />
                  </td>
                  <td className="number">{bytes(part.bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </section>
      ) : null}
    </div>
  );
}
