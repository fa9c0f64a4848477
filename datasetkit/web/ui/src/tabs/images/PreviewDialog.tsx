/** The preparation tried on three images, each before and after it. Nothing of it is kept. */

import { useEffect, useState } from "react";
import { ApiError } from "../../http";
import { number, t } from "../../i18n";
import { CommandLine } from "../../parts/CommandLine";
import { Close, Dialog } from "../../parts/Dialog";
import { useStudio } from "../../studio/context";
import { preview, sourceThumb } from "./api";
import type { Concept, Preview, PreviewImage, Steps } from "./shapes";

interface PreviewDialogProps {
  readonly concept: Concept;
  readonly steps: Steps;
  readonly close: () => void;
}

export function PreviewDialog({ concept, steps, close }: PreviewDialogProps) {
  const studio = useStudio();
  const [made, setMade] = useState<Preview | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    const stop = new AbortController();
    preview(studio.http, concept.id, steps, stop.signal).then(setMade, (error: unknown) => {
      if (error instanceof ApiError) setProblem(`${error.message}. ${error.hint}`);
      else if (!stop.signal.aborted) throw error;
    });
    return () => stop.abort();
  }, []);
  const title = t("images.preview.title");
  return (
    <Dialog label={title} close={close}>
      <header>
        <h2>{title}</h2>
      </header>
      <p className="muted">{t("images.preview.hint")}</p>
      <div className="prepare-preview" role="status">
        {problem ? <p className="error-text">{problem}</p> : null}
        {made?.images.map(({ name, before, after }) => (
          <section key={name} aria-label={name}>
            <h3>{name}</h3>
            <Figure image={before} label={t("images.before")} />
            {after ? (
              <Figure image={after} label={t("images.after")} />
            ) : (
              <p className="muted">{t("images.preview.none")}</p>
            )}
          </section>
        ))}
        {made || problem ? null : <p className="muted">{t("loading")}</p>}
      </div>
      {made ? <CommandLine command={made.command} /> : null}
      <footer>
        <Close close={close} primary />
      </footer>
    </Dialog>
  );
}

function Figure({ image, label }: { readonly image: PreviewImage; readonly label: string }) {
  return (
    <figure>
      <img src={sourceThumb(image.id, image.v)} alt={label} />
      <figcaption className="muted small">
        {label} · {number(image.w)} × {number(image.h)}
      </figcaption>
    </figure>
  );
}
