/** Go to or do anything: a list that a few letters narrow. */

import { useState } from "react";
import { chooseLanguage, type Language, LANGUAGES, t } from "../i18n";
import { Dialog } from "../parts/Dialog";
import { toggleTheme } from "../theme";
import { useStudio } from "./context";
import { TAB_NAMES } from "./facts";
import { go } from "./route";
import type { Studio } from "./studio";

interface Entry {
  readonly label: string;
  readonly keys?: string;
  readonly run: () => unknown;
}

export function Palette({ close }: { readonly close: () => void }) {
  const studio = useStudio();
  const [typed, setTyped] = useState("");
  const [active, setActive] = useState(0);
  const words = typed.trim().toLowerCase().split(/\s+/);
  const entries = entriesOf(studio).filter(({ label }) =>
    words.every((word) => label.toLowerCase().includes(word)),
  );
  const run = (entry: Entry | undefined) => {
    if (!entry) return;
    close();
    void entry.run();
  };
  return (
    <Dialog label={t("palette.title")} close={close}>
      <div className="palette">
        <input
          type="text"
          role="combobox"
          autoFocus
          aria-label={t("palette.title")}
          aria-expanded="true"
          aria-controls="palette-list"
          aria-activedescendant={entries[active] ? `palette-${active}` : undefined}
          placeholder={t("palette.title")}
          value={typed}
          onChange={(event) => {
            setTyped(event.target.value);
            setActive(0);
          }}
          onKeyDown={(event) => {
            const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
            if (by !== 0) setActive(Math.max(0, Math.min(entries.length - 1, active + by)));
            else if (event.key === "Enter") run(entries[active]);
            else return;
            event.preventDefault();
          }}
        />
        <ul id="palette-list" role="listbox" aria-label={t("palette.title")}>
          {entries.map((entry, index) => (
            <li
              key={entry.label}
              id={`palette-${index}`}
              role="option"
              aria-selected={index === active}
              className={index === active ? "active" : ""}
              ref={index === active ? scrollTo : undefined}
              onClick={() => run(entry)}
            >
              {entry.label}
              {entry.keys ? <kbd>{entry.keys}</kbd> : null}
            </li>
          ))}
        </ul>
        {entries.length === 0 ? <p className="muted">{t("palette.none")}</p> : null}
      </div>
    </Dialog>
  );
}

function scrollTo(element: HTMLElement | null): void {
  element?.scrollIntoView({ block: "nearest" });
}

function entriesOf(studio: Studio): readonly Entry[] {
  const { primary, undo } = studio.store.get();
  return [
    ...(primary
      ? [
          {
            label: t("palette.primary", { action: primary.label }),
            keys: "Ctrl Enter",
            run: () => studio.pressPrimary(),
          },
        ]
      : []),
    ...TAB_NAMES.map((name) => ({
      label: t("palette.tab", { tab: t(`tab.${name}`) }),
      run: () => go(name),
    })),
    { label: t("jobs.title"), keys: "q", run: () => studio.store.set({ overlay: "jobs" }) },
    ...(undo === null
      ? []
      : [
          {
            label: t("band.undo.what", { what: undo }),
            keys: "u",
            run: () => studio.undo(),
          },
        ]),
    { label: t("palette.theme"), keys: "m", run: toggleTheme },
    { label: t("help.title"), keys: "?", run: () => studio.store.set({ overlay: "help" }) },
    ...Object.entries(LANGUAGES).map(([code, name]) => ({
      label: t("palette.language", { name }),
      run: () => chooseLanguage(code as Language),
    })),
  ];
}
