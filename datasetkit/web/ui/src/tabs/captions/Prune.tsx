/** The tags that dsk.toml excludes and captions still have: one button leaves them out. */

import { isActive } from "../../studio/api";
import "./prune.css";
import { useEffect, useState } from "react";
import type { Http } from "../../http";
import { t } from "../../i18n";
import { Primary } from "../../parts/Primary";
import { useCommand, useFiles, useStudio, useStudioState } from "../../studio/context";

interface ToPrune {
  readonly name: string;
  readonly images: number;
  readonly tags: readonly string[];
  readonly arguments: readonly string[];
  readonly options: { readonly exclude: readonly string[] };
  readonly command: string;
}

const load = (http: Http) => http.get<{ readonly concepts: readonly ToPrune[] }>("api/pruning");

export function Prune() {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  // Captions that are being written cannot be pruned, and those that a command copies come later.
  const working = useStudioState((state) =>
    state.jobs.find((job) => job.here && isActive(job) && job.verb !== "train"),
  );
  const [concepts, setConcepts] = useState<readonly ToPrune[]>([]);
  const [version, setVersion] = useState(0);
  useFiles("captions", () => setVersion((before) => before + 1));
  useFiles("config", () => setVersion((before) => before + 1));
  useEffect(() => {
    let current = true;
    load(studio.http)
      .then((loaded) => current && setConcepts(loaded.concepts))
      .catch((error: unknown) => studio.fail(error));
    return () => {
      current = false;
    };
  }, [studio, version, working?.id]);
  useCommand(concepts.map(({ command }) => command).join(" && "));
  if (concepts.length === 0) return null;
  const images = concepts.reduce((sum, concept) => sum + concept.images, 0);
  const prune = async () => {
    try {
      for (const { arguments: folders, options } of concepts) {
        await studio.api.start({ verb: "rules", arguments: folders, options }, "queue");
      }
      studio.done(t("captions.pruned", { n: images }));
      await studio.refresh();
    } catch (error) {
      studio.fail(error);
    }
  };
  return (
    <div className="work-bar prune-bar">
      <p>
        {concepts.map(({ name, tags }) =>
          t("captions.prune.what", { name, tags: tags.join(", ") }),
        )}
      </p>
      <Primary
        label={t("captions.prune", { n: images })}
        blocked={
          readOnly
            ? t("train.blocked.readOnly")
            : working
              ? t("captions.prune.wait", { command: working.command })
              : ""
        }
        onPress={() => void prune()}
      />
    </div>
  );
}
