/** Use a folder of images where it lies, as a new concept. */

import { useState } from "react";
import { ApiError } from "../../http";
import { t } from "../../i18n";
import { Close, Dialog } from "../../parts/Dialog";
import { FolderField } from "../../parts/FolderField";
import { useStudio } from "../../studio/context";
import { addConcept } from "./api";

interface FolderDialogProps {
  readonly close: () => void;
  readonly done: () => Promise<void>;
}

export function FolderDialog({ close, done }: FolderDialogProps) {
  const studio = useStudio();
  const [folder, setFolder] = useState("");
  const [name, setName] = useState("");
  const [problem, setProblem] = useState("");
  const shownName = name || (folder.split(/[\\/]/).findLast((part) => part !== "") ?? "");
  const add = async () => {
    try {
      await addConcept(studio.http, shownName, folder);
      close();
      await done();
      await studio.refresh();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(`${error.message}. ${error.hint}`);
    }
  };
  return (
    <Dialog label={t("images.concept.add")} close={close}>
      <form
        className="keep-form"
        onSubmit={(event) => {
          event.preventDefault();
          void add();
        }}
      >
        <header>
          <h2>{t("images.concept.add")}</h2>
        </header>
        <FolderField
          label={t("images.folder")}
          hint={t("images.folder.hint")}
          value={folder}
          setValue={setFolder}
        />
        <label>
          {t("images.concept.name")}
          <input
            type="text"
            value={name}
            placeholder={shownName}
            spellCheck={false}
            onChange={(event) => setName(event.target.value)}
          />
        </label>
        {problem ? (
          <p className="error-text" role="alert">
            {problem}
          </p>
        ) : null}
        <footer>
          <button type="submit" className="primary" disabled={shownName === ""}>
            {folder ? t("images.folder.use") : t("images.concept.empty")}
          </button>
          <Close close={close} cancel />
        </footer>
      </form>
    </Dialog>
  );
}
