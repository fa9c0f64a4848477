/** The tab Watch. */

import { t } from "../../i18n";
import { EmptyState } from "../../parts/EmptyState";
import { WorkArea } from "../../parts/WorkArea";

export default function Watch() {
  return (
    <WorkArea>
      <EmptyState
        title={t("watch.empty")}
        hint={t("watch.empty.hint")}
        question={t("watch.question")}
        answer={t("watch.answer")}
      />
    </WorkArea>
  );
}
