/** What is shown while something loads: nothing at first, because most is there within a moment. */

import { useEffect, useState } from "react";
import { t } from "../i18n";

export function Loading() {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 300);
    return () => clearTimeout(timer);
  }, []);
  return late ? <p className="empty-state muted">{t("loading")}</p> : null;
}
