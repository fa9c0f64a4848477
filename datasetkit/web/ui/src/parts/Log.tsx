/** A log as it is written. It follows the end only while it is scrolled to the end. */

import { useEffect, useRef } from "react";
import { t } from "../i18n";
import type { LogText } from "./log";

export function Log({ log, label }: { readonly log: LogText; readonly label: string }) {
  const box = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    if (box.current && follows.current) box.current.scrollTop = box.current.scrollHeight;
  }, [log]);
  return (
    <div
      ref={box}
      className="log mono"
      tabIndex={0}
      role="log"
      aria-label={label}
      aria-live="off"
      onScroll={(event) => {
        const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
        follows.current = scrollTop + clientHeight >= scrollHeight - 8;
      }}
    >
      {log.dropped > 0 ? <p className="muted">{t("log.dropped", { n: log.dropped })}</p> : null}
      <pre>{log.lines.join("\n")}</pre>
    </div>
  );
}
