/** All options of the training, by search. */

import { memo, useDeferredValue, useMemo, useState } from "react";
import { Icon } from "../../components/Icon";
import { t } from "../../i18n";
import { type OptionInfo, searchOptions } from "../../parts/options";
import { SchemaField } from "../../parts/SchemaField";
import { useStore } from "../../store";
import { useStudioState } from "../../studio/context";
import { fieldOf, isChanged, type TrainForm } from "./form";
import type { Planner } from "./planner";

interface AllOptionsProps {
  readonly form: TrainForm;
  readonly planner: Planner;
  readonly options: readonly OptionInfo[];
}

export function AllOptions({ form, planner, options }: AllOptionsProps) {
  const [typed, setTyped] = useState("");
  const [open, setOpen] = useState(false);
  const [changedOnly, setChangedOnly] = useState(false);
  const config = useStore(form.store, (state) => state.config);
  const edits = useStore(form.store, (state) => state.edits);
  const family = useStore(planner.store, (state) => state.plan?.model.family ?? "");
  const wanted = useDeferredValue(typed);
  const matches = useMemo(() => searchOptions(options, wanted), [options, wanted]);
  const shown = changedOnly
    ? matches.filter((option) => isChanged(fieldOf(config, edits, option)))
    : matches;
  // By relevance while somebody searches, else by group.
  const groups = wanted.trim() === "" ? grouped(shown) : [["", shown] as const];
  const visible = open || wanted.trim() !== "" || changedOnly;
  return (
    <section className="all-options" aria-label={t("train.all", { n: options.length })}>
      <header>
        <button
          type="button"
          className="plain"
          aria-expanded={visible}
          onClick={() => setOpen(!open)}
        >
          <Icon name={visible ? "down" : "right"} /> {t("train.all", { n: options.length })}
        </button>
        <input
          type="search"
          aria-label={t("train.all.search")}
          placeholder={`${t("train.all.search")}  /`}
          autoComplete="off"
          spellCheck={false}
          value={typed}
          onChange={(event) => setTyped(event.target.value)}
          onKeyDown={(event) => {
            if (event.key !== "Escape" || typed === "") return;
            event.stopPropagation();
            event.preventDefault();
            setTyped("");
          }}
        />
        <label className="checkbox">
          <input
            type="checkbox"
            checked={changedOnly}
            onChange={(event) => setChangedOnly(event.target.checked)}
          />{" "}
          {t("train.all.changed")}
        </label>
      </header>
      {visible && shown.length === 0 ? <p className="muted">{t("train.all.none")}</p> : null}
      {visible
        ? groups.map(([group, members]) => (
            <div key={group} className="option-group">
              {group ? <h2>{group}</h2> : null}
              {members.map((option) => (
                <OptionField key={option.name} form={form} option={option} family={family} />
              ))}
            </div>
          ))
        : null}
    </section>
  );
}

interface OptionFieldProps {
  readonly form: TrainForm;
  readonly option: OptionInfo;
  readonly family: string;
}

const OptionField = memo(function OptionField({ form, option, family }: OptionFieldProps) {
  const config = useStore(form.store, (state) => state.config);
  // Only an edit of this option renders it again.
  const edit = useStore(form.store, (state) => state.edits[option.name]);
  const edited = useStore(form.store, (state) => option.name in state.edits);
  const problem = useStore(form.store, (state) => state.problems[option.name]);
  const readOnly = useStudioState((state) => state.session.read_only);
  const shown = fieldOf(config, edited ? { [option.name]: edit } : {}, option);
  return (
    <SchemaField
      option={option}
      value={shown.value}
      source={shown.source}
      base={shown.base}
      family={family}
      readOnly={readOnly}
      problem={problem ?? ""}
      onChange={(value) => form.set(option.name, value)}
      onReset={() => form.reset(option.name)}
      onInvalid={(invalid) => form.setInvalid(option.name, invalid)}
    />
  );
});

function grouped(options: readonly OptionInfo[]): (readonly [string, readonly OptionInfo[]])[] {
  const groups = new Map<string, OptionInfo[]>();
  for (const option of options) {
    const group = option.group || t("train.ungrouped");
    groups.set(group, [...(groups.get(group) ?? []), option]);
  }
  return [...groups];
}
