/** The tab Check. */

import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";

export default function Check() {
  return (
    <WorkArea>
      <EmptyState
        title={t("check.empty")}
        hint={t("check.empty.hint")}
        question={t("check.question")}
        answer={t("check.answer")}
      />
    </WorkArea>
  );
}
