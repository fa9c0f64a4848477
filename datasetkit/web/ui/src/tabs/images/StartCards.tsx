/** The first thing that somebody sees in an empty folder: three ways to begin. */

import { type ReactNode, useEffect, useState } from "react";
import { Icon } from "../../components/Icon";
import { ApiError, isMissing } from "../../http";
import { moment, serverText, t } from "../../i18n";
import { CommandLine } from "../../parts/CommandLine";
import { type DroppedFile, DropZone } from "../../parts/DropZone";
import { useStudio, useStudioState } from "../../studio/context";
import { startTour, wasSeen } from "../../studio/tour";

interface Recent {
  readonly name: string;
  readonly folder: string;
  readonly command: string;
  readonly images: number | null;
  readonly time: number;
}

interface Start {
  readonly recent: readonly Recent[];
  readonly example: { readonly images: number } | null;
}

interface Job {
  readonly id: string;
  readonly state: string;
  readonly title: string;
}

interface StartCardsProps {
  readonly take: (files: readonly DroppedFile[]) => void;
  readonly openFolder: () => void;
  readonly done: () => Promise<void>;
}

export function StartCards({ take, openFolder, done }: StartCardsProps) {
  const studio = useStudio();
  const readOnly = useStudioState((state) => state.session.read_only);
  const [start, setStart] = useState<Start>({ recent: [], example: null });
  const [jobs, setJobs] = useState<readonly Job[]>([]);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);

  useEffect(() => {
    const fail = (error: unknown) => {
      if (!isMissing(error)) studio.fail(error);
    };
    studio.http.get<Start>("api/start").then(setStart, fail);
    studio.http
      .get<{ readonly problem: string }>("api/system")
      .then((system) => setProblem(system.problem), fail);
    studio.http
      .get<{ readonly jobs: readonly Job[] }>("api/jobs")
      .then((all) => setJobs(all.jobs.filter((job) => job.state === "running")), fail);
  }, [studio]);

  const example = async () => {
    setBusy(true);
    try {
      await studio.http.post("api/start", { example: true });
      if (!wasSeen()) startTour();
      await done();
      await studio.refresh();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      studio.fail(error);
    } finally {
      setBusy(false);
    }
  };
  return (
    <div className="start">
      <h2>{t("start.title")}</h2>
      <div className="start-cards">
        <Card icon="folder" title={t("start.folder")} text={t("start.folder.what")}>
          <button type="button" disabled={readOnly} onClick={openFolder}>
            {t("images.folder.open")}
          </button>
        </Card>
        <Card icon="down" title={t("start.drop")} text={t("start.drop.what")}>
          <DropZone onFiles={take} disabled={readOnly} />
        </Card>
        {start.example ? (
          <Card
            icon="image"
            title={t("start.example", { n: start.example.images })}
            text={t("start.example.what")}
          >
            <button
              type="button"
              className="primary"
              disabled={readOnly || busy}
              onClick={() => void example()}
            >
              {t("start.example.do")}
            </button>
          </Card>
        ) : null}
      </div>
      {problem ? <p className="warn-text">▲ {serverText(problem)}</p> : null}
      {jobs.length > 0 ? (
        <p className="muted">
          {t("start.jobs")} {jobs.map((job) => job.title).join(", ")}
        </p>
      ) : null}
      {start.recent.length > 0 ? (
        <section>
          <h3>{t("start.recent")}</h3>
          <ul className="start-recent">
            {start.recent.map((project) => (
              <li key={project.folder}>
                <b>{project.name}</b>
                <span className="muted">
                  {project.images === null ? "" : t("images.count", { n: project.images })} ·{" "}
                  {moment(project.time)}
                </span>
                <CommandLine command={project.command} />
              </li>
            ))}
          </ul>
        </section>
      ) : null}
      <details>
        <summary>{t("images.question")}</summary>
        <p>{t("images.answer")}</p>
      </details>
    </div>
  );
}

interface CardProps {
  readonly icon: "folder" | "down" | "image";
  readonly title: string;
  readonly text: string;
  readonly children: ReactNode;
}

function Card({ icon, title, text, children }: CardProps) {
  return (
    <section className="start-card">
      <Icon name={icon} />
      <h3>{title}</h3>
      <p className="muted">{text}</p>
      {children}
    </section>
  );
}
