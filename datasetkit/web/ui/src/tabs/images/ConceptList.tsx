/** The concepts of the project: what is trained, and regularisation images. */

import { number, t } from "../../i18n";
import type { Concept } from "./shapes";

interface ConceptListProps {
  readonly concepts: readonly Concept[];
  readonly concept: Concept;
  readonly choose: (id: number) => void;
  readonly add: () => void;
}

export function ConceptList({ concepts, concept, choose, add }: ConceptListProps) {
  return (
    <section className="concepts" aria-label={t("images.concepts")}>
      <h2 className="section">{t("images.concepts")}</h2>
      <ul>
        {concepts.map((item) => (
          <li key={item.id}>
            <button
              type="button"
              className="plain"
              aria-current={item.id === concept.id}
              onClick={() => choose(item.id)}
            >
              <span className="name" title={item.folder}>
                {item.name}
                {item.kind === "reg" ? <span className="muted"> {t("images.reg")}</span> : null}
              </span>
              <span className="number">{number(item.images)}</span>
            </button>
          </li>
        ))}
      </ul>
      <button type="button" className="plain" onClick={add}>
        + {t("images.concept.add")}
      </button>
    </section>
  );
}
