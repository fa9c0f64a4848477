/** A folder on the machine of the server: typed, chosen from suggestions, or browsed. */

import { useId, useState } from "react";
import { Icon } from "../components/Icon";
import { ApiError } from "../http";
import { t } from "../i18n";
import { useStudio } from "../studio/context";

export interface FolderSuggestion {
  readonly path: string;
  readonly note: string;
}

/** `POST api/browse`: the folders in a folder. Files are never listed. */
export interface Folders {
  readonly path: string;
  /** The folder above, null where the page may not go higher. */
  readonly parent: string | null;
  readonly roots: readonly string[];
  readonly folders: readonly {
    readonly name: string;
    readonly link: boolean;
    /** Null where counting takes too long. */
    readonly images: number | null;
    readonly captions: number | null;
  }[];
  /** How many more there are. */
  readonly more: number;
}

/** The path of a folder in another one, with the separator that its path has. */
export function joined(folder: string, name: string): string {
  const separator = folder.includes("\\") && !folder.includes("/") ? "\\" : "/";
  return folder.endsWith(separator) ? folder + name : folder + separator + name;
}

interface FolderFieldProps {
  readonly label: string;
  readonly hint?: string;
  readonly value: string;
  readonly setValue: (path: string) => void;
  readonly suggestions?: readonly FolderSuggestion[];
}

export function FolderField(props: FolderFieldProps) {
  const { label, hint, value, setValue, suggestions = [] } = props;
  const id = useId();
  const [open, setOpen] = useState(false);
  return (
    <div className="folder-field">
      <label htmlFor={id}>{label}</label>
      <div className="folder-row">
        <input
          id={id}
          type="text"
          value={value}
          spellCheck={false}
          autoComplete="off"
          aria-describedby={hint ? `${id}-hint` : undefined}
          onChange={(event) => setValue(event.target.value)}
        />
        <button type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
          {t("choose")}
        </button>
      </div>
      {hint ? (
        <p id={`${id}-hint`} className="muted small">
          {hint}
        </p>
      ) : null}
      {suggestions.length > 0 ? (
        <ul className="folder-suggestions">
          {suggestions.map((folder) => (
            <li key={folder.path}>
              <button
                type="button"
                aria-pressed={folder.path === value}
                onClick={() => setValue(folder.path)}
              >
                {folder.note ? <b>{folder.note}</b> : null} {folder.path}
              </button>
            </li>
          ))}
        </ul>
      ) : null}
      {open ? <Browser start={value} choose={setValue} /> : null}
    </div>
  );
}

interface BrowserProps {
  readonly start: string;
  readonly choose: (path: string) => void;
}

/** The folders in a folder of the server, and the way up. */
export function Browser({ start, choose }: BrowserProps) {
  const studio = useStudio();
  const [shown, setShown] = useState<Folders | null>(null);
  const [problem, setProblem] = useState("");
  const [asked, setAsked] = useState(false);
  const load = async (path: string) => {
    try {
      setProblem("");
      setShown(await studio.http.post<Folders>("api/browse", { path }));
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      setProblem(`${error.message}. ${error.hint}`);
    }
  };
  if (!asked) {
    setAsked(true);
    void load(start);
  }
  const open = (path: string) => {
    choose(path);
    void load(path);
  };
  return (
    <div className="browser">
      {problem ? <p className="error-text">{problem}</p> : null}
      {shown ? (
        <>
          <p className="browser-path">
            <button
              type="button"
              className="plain"
              disabled={shown.parent === null}
              onClick={() => shown.parent !== null && open(shown.parent)}
            >
              <Icon name="left" /> {t("browse.up")}
            </button>
            <code>{shown.path}</code>
          </p>
          <ul tabIndex={0} aria-label={t("browse.folders")}>
            {shown.folders.map((folder) => (
              <li key={folder.name}>
                <button
                  type="button"
                  className="plain"
                  disabled={folder.link}
                  onClick={() => open(joined(shown.path, folder.name))}
                >
                  {folder.name}
                  {folder.images ? (
                    <span className="muted"> {t("browse.images", { n: folder.images })}</span>
                  ) : null}
                </button>
              </li>
            ))}
            {shown.folders.length === 0 ? <li className="muted">{t("browse.none")}</li> : null}
            {shown.more > 0 ? <li className="muted">{t("browse.more")}</li> : null}
          </ul>
        </>
      ) : null}
    </div>
  );
}
