/** Help: the keys of all tabs, and the language. */

import { chooseLanguage, type Key, type Language, LANGUAGES, t, useLanguage } from "../i18n";
import { Close, Dialog } from "../parts/Dialog";
import { toggleTheme } from "../theme";
import { startTour } from "./tour";

const KEYS: readonly (readonly [keys: string, label: Key])[] = [
  ["[ ]", "key.prev"],
  ["Ctrl Enter", "key.primary"],
  ["Ctrl K", "key.palette"],
  ["q", "key.jobs"],
  ["h", "key.history"],
  ["/", "key.search"],
  ["i", "key.details"],
  ["u U", "key.undo"],
  ["m", "key.theme"],
  ["?", "key.help"],
  ["Esc", "key.back"],
];
const COMPARE_KEYS: readonly (readonly [keys: string, label: Key])[] = [
  ["v", "key.view"],
  ["b", "key.blink"],
  ["z", "key.zoom"],
  ["k", "key.keep"],
  ["1 – 5  0", "key.mark"],
  ["y", "key.blind"],
];

export function Help({ close }: { readonly close: () => void }) {
  const language = useLanguage();
  return (
    <Dialog label={t("help.title")} close={close}>
      <header>
        <h2>{t("help.title")}</h2>
        <p className="muted">{t("help.keys")}</p>
        <Close close={close} />
      </header>
      <div className="key-columns">
        <Keys rows={KEYS} />
        <div>
          <h3>{t("tab.compare")}</h3>
          <Keys rows={COMPARE_KEYS} />
          <label className="language">
            {t("help.language")}
            <select
              value={language}
              onChange={(event) => void chooseLanguage(event.target.value as Language)}
            >
              {Object.entries(LANGUAGES).map(([code, name]) => (
                <option key={code} value={code} lang={code}>
                  {name}
                </option>
              ))}
            </select>
          </label>
          <button type="button" onClick={toggleTheme}>
            {t("palette.theme")} <kbd>m</kbd>
          </button>
          <button
            type="button"
            onClick={() => {
              close();
              startTour();
            }}
          >
            {t("help.tour")}
          </button>
        </div>
      </div>
    </Dialog>
  );
}

function Keys({ rows }: { readonly rows: readonly (readonly [string, Key])[] }) {
  return (
    <dl className="wide">
      {rows.map(([keys, label]) => (
        <div key={label}>
          <dt>
            <kbd>{keys}</kbd>
          </dt>
          <dd>{t(label as "close")}</dd>
        </div>
      ))}
    </dl>
  );
}
