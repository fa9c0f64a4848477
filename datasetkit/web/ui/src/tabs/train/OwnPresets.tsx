/** The user's own presets: save the present settings under a name, use one, delete one. */

import { useState } from "react";
import { Icon } from "../../components/Icon";
import { ApiError } from "../../http";
import { t } from "../../i18n";
import { Close, Dialog } from "../../parts/Dialog";
import type { OptionInfo } from "../../parts/options";
import { useStore } from "../../store";
import type { OwnPreset, Presets } from "../../studio/api";
import { useStudio, useStudioState } from "../../studio/context";
import type { TrainForm } from "./form";
import { fileName, ofProject, ownSettings } from "./ownSettings";

interface OwnPresetsProps {
  readonly form: TrainForm;
  readonly presets: Presets | null;
  readonly options: readonly OptionInfo[];
  readonly changed: (presets: Presets) => void;
}

export function OwnPresets(props: OwnPresetsProps) {
  const [open, setOpen] = useState(false);
  return (
    <>
      <button
        type="button"
        className="plain"
        disabled={!props.presets}
        onClick={() => setOpen(true)}
      >
        {t("train.own")}
      </button>
      {open && props.presets ? (
        <OwnDialog {...props} presets={props.presets} close={() => setOpen(false)} />
      ) : null}
    </>
  );
}

interface OwnDialogProps extends OwnPresetsProps {
  readonly presets: Presets;
  readonly close: () => void;
}

function OwnDialog({ form, presets, options, changed, close }: OwnDialogProps) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  const config = useStore(form.store, (state) => state.config);
  const [title, setTitle] = useState("");
  const [problem, setProblem] = useState("");
  const settings = ownSettings(config, options);
  const count = Object.keys(settings).length;
  const before = presets.own.find((own) => own.title === title.trim());
  const name = before?.name ?? fileName(title, presets.own);
  const run = async (work: () => Promise<unknown>) => {
    try {
      await work();
      changed(await studio.api.presets());
      setProblem("");
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem([error.message, error.hint].filter(Boolean).join(": "));
      return false;
    }
  };
  const save = async () => {
    // What the form shows is what is saved.
    await form.save();
    const train = ownSettings(form.store.get().config, options);
    const values = { title: title.trim(), tables: { train } };
    const saved = await run(() =>
      studio.api.savePreset(name, { ...values, replace: before !== undefined }),
    );
    if (saved) studio.done(t("train.own.saved", { name: values.title }));
    if (saved) setTitle("");
  };
  const use = (preset: OwnPreset) => {
    form.useOwn(preset.tables["train"] ?? {}, ofProject(options));
    studio.done(t("train.own.used", { name: preset.title }));
    close();
  };
  return (
    <Dialog label={t("train.own")} close={close}>
      <header>
        <h2>{t("train.own").replace("…", "")}</h2>
        <p className="muted">{t("train.own.hint")}</p>
      </header>
      {presets.own.length ? (
        <ul className="own-presets">
          {presets.own.map((preset) => (
            <li key={preset.name}>
              <span>
                <b>{preset.title}</b>
                {preset.warnings.map((warning) => (
                  <span key={warning} className="error-text small">
                    {" "}
                    {warning}
                  </span>
                ))}
              </span>
              <button type="button" disabled={readOnly} onClick={() => use(preset)}>
                {t("train.own.use")}
              </button>
              <button
                type="button"
                className="plain icon-only"
                disabled={readOnly}
                aria-label={t("train.own.delete", { name: preset.title })}
                title={t("train.own.delete", { name: preset.title })}
                onClick={() => void run(() => studio.api.deletePreset(preset.name))}
              >
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      ) : (
        <p className="muted">{t("train.own.none")}</p>
      )}
      <form
        className="own-save"
        onSubmit={(event) => {
          event.preventDefault();
          if (title.trim() !== "" && count > 0) void save();
        }}
      >
        <label htmlFor="own-name">{t("train.own.name")}</label>
        <input
          id="own-name"
          type="text"
          autoComplete="off"
          maxLength={100}
          value={title}
          readOnly={readOnly}
          onChange={(event) => setTitle(event.target.value)}
        />
        <button
          type="submit"
          className="primary"
          disabled={readOnly || title.trim() === "" || count === 0}
        >
          {before ? t("train.own.replace") : t("train.own.save", { n: count })}
        </button>
      </form>
      {count === 0 ? <p className="muted small">{t("train.own.nothing")}</p> : null}
      {problem ? <p className="error-text">{problem}</p> : null}
      <footer>
        <Close close={close} />
      </footer>
    </Dialog>
  );
}
