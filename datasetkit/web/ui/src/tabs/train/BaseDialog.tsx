/** Choose a base model: a file or folder on the machine of the server, or a name that it knows. */

import { useEffect, useState } from "react";
import { Icon } from "../../components/Icon";
import { ApiError } from "../../http";
import { bytes, t } from "../../i18n";
import { Close, Dialog } from "../../parts/Dialog";
import { joined } from "../../parts/FolderField";
import type { BaseModels } from "../../studio/api";
import { useStudio } from "../../studio/context";

interface BaseDialogProps {
  /** What is chosen now, "" for nothing. */
  readonly value: string;
  readonly choose: (value: string) => void;
  readonly close: () => void;
}

export function BaseDialog({ value, choose, close }: BaseDialogProps) {
  const studio = useStudio();
  const [listed, setListed] = useState<BaseModels | null>(null);
  const [problem, setProblem] = useState("");
  const load = async (path: string, fallback?: string) => {
    try {
      setListed(await studio.api.models(path));
      setProblem("");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (fallback !== undefined) await load(fallback);
      else setProblem([error.message, error.hint].filter(Boolean).join(". "));
    }
  };
  // A name of the hub is not a path here: then the folder of the project is shown.
  useEffect(() => void load(value, ""), []);
  const take = (chosen: string) => {
    choose(chosen);
    close();
  };
  return (
    <Dialog label={t("train.base.title")} close={close}>
      <header>
        <h2>{t("train.base.title")}</h2>
        <p className="muted">{t("train.base.hint")}</p>
      </header>
      {problem ? <p className="error-text">{problem}</p> : null}
      {listed ? (
        <div className="browser base-models">
          <h3>{t("train.base.known")}</h3>
          <ModelList models={listed.known} value={value} take={take} />
          <h3>{t("train.base.folder")}</h3>
          <p className="browser-path">
            <button
              type="button"
              className="plain"
              disabled={listed.parent === null}
              onClick={() => void load(listed.parent ?? "")}
            >
              <Icon name="left" /> {t("browse.up")}
            </button>
            <code>{listed.path}</code>
          </p>
          <ul tabIndex={0} aria-label={t("browse.folders")}>
            {listed.folders.map((folder) => (
              <li key={folder.name}>
                <button
                  type="button"
                  className="plain"
                  disabled={folder.link}
                  onClick={() => void load(joined(listed.path, folder.name))}
                >
                  <Icon name="right" /> {folder.name}
                </button>
              </li>
            ))}
            {listed.folders.length === 0 ? <li className="muted">{t("browse.none")}</li> : null}
          </ul>
          {listed.models.length ? (
            <ModelList models={listed.models} value={value} take={take} />
          ) : (
            <p className="muted">{t("train.base.none")}</p>
          )}
        </div>
      ) : null}
      <footer>
        <Close close={close} cancel />
      </footer>
    </Dialog>
  );
}

interface ModelListProps {
  readonly models: readonly {
    readonly value: string;
    readonly name?: string;
    readonly size: number | null;
  }[];
  readonly value: string;
  readonly take: (value: string) => void;
}

function ModelList({ models, value, take }: ModelListProps) {
  return (
    <ul aria-label={t("train.base.models")} tabIndex={0}>
      {models.map((model) => (
        <li key={model.value}>
          <button
            type="button"
            className="plain"
            title={model.value}
            aria-pressed={model.value === value}
            onClick={() => take(model.value)}
          >
            {model.name ?? shortName(model.value)}
            {model.size === null ? null : <span className="muted"> {bytes(model.size)}</span>}
          </button>
        </li>
      ))}
    </ul>
  );
}

/** The name of a model of the hub with the beginning of its commit. */
export function shortName(value: string): string {
  return value.replace(/@([0-9a-f]{7})[0-9a-f]+$/, "@$1");
}
