/** The routes of the tab Plan. */

import { isActive } from "../../studio/api";
import { type Http, query } from "../../http";
import { type Page, rowsOf } from "../../parts/windows";
import type { LayoutPlan, PlannedImage } from "./shapes";

const COLUMNS = [
  "id",
  "v",
  "name",
  "w",
  "h",
  "bucket_w",
  "bucket_h",
  "left",
  "top",
  "right",
  "bottom",
  "scale",
] as const;

export const loadPlan = (http: Http): Promise<LayoutPlan> => http.get("api/layout");

export async function loadPlannedImages(
  http: Http,
  offset: number,
  limit: number,
): Promise<Page<PlannedImage>> {
  const columns = await http.get<Readonly<Record<string, unknown>>>(
    `api/layout/images?${query({ offset, limit })}`,
  );
  return { total: Number(columns["total"] ?? 0), rows: rowsOf<PlannedImage>(columns, COLUMNS) };
}

/** Write the repeats of a concept into dsk.toml. */
export async function setRepeats(http: Http, concept: number, repeats: number): Promise<void> {
  const { hash } = await http.get<{ readonly hash: string }>("api/config");
  await http.put("api/config", { hash, concepts: [{ at: concept, set: { repeats } }] });
}

interface StartedJob {
  readonly job: { readonly id: string; readonly state: string };
}

const LOOK_MS = 700;

/** Lay the dataset out; return the number of the job. */
export async function startLayout(http: Http): Promise<string> {
  return (await http.post<StartedJob>("api/jobs", { verb: "layout", when: "queue" })).job.id;
}

export const startReg = (http: Http): Promise<StartedJob> =>
  http.post("api/jobs", { verb: "reg", when: "queue" });

/** Wait for a job; return whether it did its work. */
export async function hasEnded(http: Http, id: string): Promise<boolean> {
  for (;;) {
    const { job } = await http.get<StartedJob>(`api/jobs/${encodeURIComponent(id)}`);
    if (!isActive(job)) return job.state === "done";
    await new Promise((done) => setTimeout(done, LOOK_MS));
  }
}
