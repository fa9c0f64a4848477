/** The tab Compare. */

import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";

export default function Compare() {
  return (
    <WorkArea>
      <EmptyState
        title={t("compare.empty")}
        hint={t("compare.empty.hint")}
        question={t("compare.question")}
        answer={t("compare.answer")}
      />
    </WorkArea>
  );
}
