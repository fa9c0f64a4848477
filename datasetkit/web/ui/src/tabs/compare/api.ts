/** The routes of the tab Compare. */

import type { Http } from "../../http";
import type { Cell, Grid, GridEntry, KeepFolder, KeepResult } from "./shapes";

/** A run whose files can be drawn. */
export interface RunFiles {
  readonly id: string;
  readonly name: string;
  readonly folder: string;
  /** As the axis `epoch` takes them, in the order of the training. */
  readonly epochs: readonly string[];
  readonly prompts: number;
  /** For one image, where it is known. */
  readonly seconds: number | null;
}

export interface GridList {
  readonly grids: readonly GridEntry[];
  readonly runs: readonly RunFiles[];
}

/** `POST api/plan`: what a dry run of `dsk grid` answers. */
export interface DrawPlan {
  readonly command: string;
  readonly output: {
    readonly result: { readonly images: number; readonly drawn: readonly string[] };
    readonly warnings: readonly string[];
  } | null;
  readonly error?: string;
  readonly hint?: string;
}

export interface KeepRequest {
  readonly grid: string;
  readonly file: number;
  /** The cell that becomes the preview. */
  readonly cell: number | null;
  readonly options: {
    readonly to: string;
    readonly name: string;
    readonly weight: number;
    readonly replace: boolean;
  };
}

export const loadGrids = (http: Http, signal?: AbortSignal): Promise<GridList> =>
  http.get("api/grids", signal);

export const loadGrid = (http: Http, id: string, signal?: AbortSignal): Promise<Grid> =>
  http.get(`api/grids/${encodeURIComponent(id)}`, signal);

export const mark = (
  http: Http,
  grid: string,
  cell: number,
  value: number,
): Promise<{ readonly marks: Grid["marks"] }> =>
  http.post(`api/grids/${encodeURIComponent(grid)}/marks`, { cell, mark: value });

export interface KeepFolders {
  /** Those that files were kept in before, the newest first. */
  readonly folders: readonly KeepFolder[];
  /** A folder in the project, for a first try. */
  readonly default: string;
}

export const keepFolders = (http: Http): Promise<KeepFolders> => http.get("api/loras/keep");

export const keep = (
  http: Http,
  request: KeepRequest,
  dryRun: boolean,
  signal?: AbortSignal,
): Promise<KeepResult> => http.post("api/loras/keep", { ...request, dry_run: dryRun }, signal);

/** The image of a cell; side: a smaller JPEG whose longer side has so many pixels. */
export function cellUrl(grid: string, cell: Cell, side = 0): string {
  const { grid: id, n } = cell.origin ?? { grid, n: cell.n };
  const size = side > 0 && Math.max(cell.w, cell.h) > side ? `&side=${side}` : "";
  return `cell/${encodeURIComponent(id)}/${n}?v=${encodeURIComponent(cell.v)}${size}`;
}

/** What keeping writes, as a zip for a browser on another machine. */
export function zipUrl({ grid, file, cell, options }: KeepRequest): string {
  const query = new URLSearchParams({ name: options.name, weight: String(options.weight) });
  if (cell !== null) query.set("cell", String(cell));
  return `lora/${encodeURIComponent(grid)}/${file}?${query}`;
}
