/** The tab Images. */

import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";

export default function Images() {
  return (
    <WorkArea>
      <EmptyState
        title={t("images.empty")}
        hint={t("images.empty.hint")}
        question={t("images.question")}
        answer={t("images.answer")}
      />
    </WorkArea>
  );
}
