/** The tab History. */

import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";

export default function History() {
  return (
    <WorkArea>
      <EmptyState
        title={t("history.empty")}
        hint={t("history.empty.hint")}
        question={t("history.question")}
        answer={t("history.answer")}
      />
    </WorkArea>
  );
}
