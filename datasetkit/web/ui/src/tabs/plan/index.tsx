/** The tab Plan. */

import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";

export default function Plan() {
  return (
    <WorkArea>
      <EmptyState
        title={t("plan.empty")}
        hint={t("plan.empty.hint")}
        question={t("plan.question")}
        answer={t("plan.answer")}
      />
    </WorkArea>
  );
}
