/** A command of the terminal; a click copies it. */

import { useEffect, useState } from "react";
import { Icon } from "../components/Icon";
import { t } from "../i18n";
import { useStudio } from "../studio/context";
import { copyText } from "./copy";

export function CommandLine({ command }: { readonly command: string }) {
  const studio = useStudio();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    const done = await copyText(command);
    setCopied(done);
    if (!done) studio.toast(t("copy.failed"), { kind: "warning" });
  };
  return (
    <div className="command">
      <code title={t("band.command")}>$ {command}</code>
      <button type="button" className="plain" onClick={() => void copy()}>
        <Icon name={copied ? "check" : "copy"} /> {copied ? t("copied") : t("copy")}
      </button>
    </div>
  );
}
