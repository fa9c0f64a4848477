/** The tab Train. */

import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";

export default function Train() {
  return (
    <WorkArea>
      <EmptyState
        title={t("train.empty")}
        hint={t("train.empty.hint")}
        question={t("train.question")}
        answer={t("train.answer")}
      />
    </WorkArea>
  );
}
