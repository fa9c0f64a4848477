/** The routes of the tab Plan. */

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
