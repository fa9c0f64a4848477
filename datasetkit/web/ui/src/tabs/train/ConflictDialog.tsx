/** Somebody else changed dsk.toml: for each option, whose value stays. */

import { useState } from "react";
import { t } from "../../i18n";
import { Dialog } from "../../parts/Dialog";
import type { OptionInfo, OptionValue } from "../../parts/options";
import { valueText } from "../../parts/options";
import type { Difference } from "../../studio/api";
import type { TrainForm } from "./form";

interface ConflictDialogProps {
  readonly form: TrainForm;
  readonly differences: readonly Difference[];
  readonly options: readonly OptionInfo[];
}

export function ConflictDialog({ form, differences, options }: ConflictDialogProps) {
  // What is in the file stays, unless somebody says otherwise.
  const [mine, setMine] = useState<Readonly<Record<string, boolean>>>(() =>
    Object.fromEntries(differences.map(({ key }) => [key, false])),
  );
  const text = (name: string, value: OptionValue) => {
    const option = options.find((one) => one.name === name);
    return option ? valueText(option, value) : String(value ?? t("none"));
  };
  return (
    <Dialog label={t("train.conflict")} close={() => form.resolve(mine)}>
      <header>
        <h2>{t("train.conflict")}</h2>
        <p className="muted">{t("train.conflict.hint")}</p>
      </header>
      <table className="train-conflict">
        <thead>
          <tr>
            <th scope="col">{t("train.conflict.option")}</th>
            <th scope="col">{t("train.conflict.theirs")}</th>
            <th scope="col">{t("train.conflict.mine")}</th>
          </tr>
        </thead>
        <tbody>
          {differences.map(({ key, yours, theirs }) => (
            <tr key={key}>
              <th scope="row">
                <code>{key}</code>
              </th>
              {([false, true] as const).map((isMine) => (
                <td key={String(isMine)}>
                  <label>
                    <input
                      type="radio"
                      name={key}
                      checked={(mine[key] ?? false) === isMine}
                      onChange={() => setMine({ ...mine, [key]: isMine })}
                    />{" "}
                    {text(key, isMine ? yours : theirs)}
                  </label>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      <footer>
        <button type="button" className="primary" onClick={() => form.resolve(mine)}>
          {t("train.conflict.apply")}
        </button>
      </footer>
    </Dialog>
  );
}
