/** The routes of the tab Images. */

import { type Http, query } from "../../http";
import { type Page, rowsOf } from "../../parts/windows";
import type {
  Concepts,
  Imported,
  LeftOut,
  PreparePlan,
  Preview,
  Source,
  SourceRow,
  Steps,
  Upload,
} from "./shapes";
import type { UploadServer } from "./uploader";

export const loadConcepts = (http: Http): Promise<Concepts> => http.get("api/concepts");

export async function loadSources(
  http: Http,
  concept: number,
  offset: number,
  limit: number,
): Promise<Page<SourceRow>> {
  const columns = await http.get<Readonly<Record<string, unknown>>>(
    `api/sources?${query({ concept, offset, limit })}`,
  );
  return {
    total: Number(columns["total"] ?? 0),
    rows: rowsOf<SourceRow>(columns, ["id", "name", "w", "h", "v", "bytes", "problem"]),
  };
}

export const loadSource = (http: Http, id: number, signal?: AbortSignal): Promise<Source> =>
  http.get(`api/sources/${id}`, signal);

export const loadLeftOut = (
  http: Http,
  concept: number,
): Promise<{ readonly files: readonly LeftOut[] }> =>
  http.get(`api/left-out?${query({ concept })}`);

export const addConcept = (
  http: Http,
  name: string,
  folder: string,
): Promise<{ readonly id: number }> =>
  http.post("api/concepts", folder ? { name, folder } : { name });

export const prepare = <Result = PreparePlan>(
  http: Http,
  concept: number | null,
  steps: Steps,
  dryRun: boolean,
  signal?: AbortSignal,
): Promise<Result> => http.post("api/prepare", { concept, steps, dry_run: dryRun }, signal);

export const preview = (
  http: Http,
  concept: number,
  steps: Steps,
  signal: AbortSignal,
): Promise<Preview> => http.post("api/prepare/preview", { concept, steps }, signal);

/** Where files of an upload go: a concept by name. */
export function uploadServer(http: Http, concept: string): UploadServer {
  return {
    open: (files) => http.post<Upload>("api/uploads", { files, concept }),
    send: (id, n, file, signal) => http.upload(`api/uploads/${id}/${n}`, file, signal),
    end: (id) => http.post<Imported>(`api/uploads/${id}/end`, {}),
    cancel: (id) => http.delete(`api/uploads/${id}`),
  };
}

export function sourceThumb(id: number, v: string): string {
  return `source/${id}?v=${encodeURIComponent(v)}&side=400`;
}

export function sourceImage(id: number, v: string): string {
  return `source/${id}?v=${encodeURIComponent(v)}`;
}

export function madeImage(id: number, v: string): string {
  return `made/${id}?v=${encodeURIComponent(v)}`;
}
