/** What is done next with the captions: images without one are tagged, then tags that dsk.toml
 * excludes are left out, then it goes on in the next tab. */

import { isActive } from "../../studio/api";
import "./next.css";
import { useEffect, useState } from "react";
import type { Http } from "../../http";
import type { OptionValue } from "../../parts/options";
import { t } from "../../i18n";
import { Primary } from "../../parts/Primary";
import { useCommand, useFiles, useStudio, useStudioState } from "../../studio/context";

interface Concept {
  readonly name: string;
  readonly images: number;
  /** That are left out. */
  readonly tags?: readonly string[];
  readonly arguments: readonly string[];
  readonly options: Readonly<Record<string, OptionValue>>;
  readonly command: string;
}

interface Step {
  /** What it was loaded for. */
  readonly key: string;
  readonly verb: "tag" | "rules";
  readonly concepts: readonly Concept[];
}

async function load(http: Http, key: string): Promise<Step> {
  const get = (path: string) => http.get<{ readonly concepts: readonly Concept[] }>(path);
  const { concepts } = await get("api/tagging");
  if (concepts.length > 0) return { key, verb: "tag", concepts };
  return { key, verb: "rules", concepts: (await get("api/pruning")).concepts };
}

export function NextStep() {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  // Captions that are being written cannot be changed, and those that a command copies come later.
  const working = useStudioState((state) =>
    state.jobs.find((job) => job.here && isActive(job) && job.verb !== "train"),
  );
  const [step, setStep] = useState<Step | null>(null);
  const [version, setVersion] = useState(0);
  useFiles("captions", () => setVersion((before) => before + 1));
  useFiles("config", () => setVersion((before) => before + 1));
  const key = `${version} ${working?.id}`;
  useEffect(() => {
    let current = true;
    load(studio.http, key)
      .then((loaded) => current && setStep(loaded))
      .catch((error: unknown) => studio.fail(error));
    return () => {
      current = false;
    };
  }, [studio, key]);
  const concepts = step?.concepts ?? [];
  useCommand(concepts.map(({ command }) => command).join(" && "));
  // A command that has just ended made other captions: what to do with them is not known yet.
  if (step === null || (step.key !== key && !working)) return null;
  const { verb } = step;
  const n = concepts.reduce((sum, concept) => sum + concept.images, 0);
  const start = async () => {
    try {
      for (const { arguments: folders, options } of concepts) {
        await studio.api.start({ verb, arguments: folders, options }, "queue");
      }
      studio.done(t(verb === "tag" ? "captions.tag" : "captions.prune", { n }));
      await studio.refresh();
      return true;
    } catch (error) {
      studio.fail(error);
      return false;
    }
  };
  const blocked = readOnly
    ? t("train.blocked.readOnly")
    : working
      ? t("captions.prune.wait", { command: working.command })
      : "";
  return (
    <div className="work-bar caption-step">
      <p>
        {concepts.map(({ name, images, tags }) =>
          tags
            ? t("captions.prune.what", { name, tags: tags.join(", ") })
            : t("captions.tag.what", { name, n: images }),
        )}
      </p>
      <Primary
        label={t(verb === "tag" ? "captions.tag" : "captions.prune", { n })}
        blocked={concepts.length > 0 ? blocked : ""}
        done={concepts.length > 0 ? "" : t("captions.ready")}
        onPress={start}
      />
    </div>
  );
}
