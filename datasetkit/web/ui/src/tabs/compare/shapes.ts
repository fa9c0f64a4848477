/** What the server sends about grids, and what it answers to "keep". */

export interface GridEntry {
  readonly id: string;
  readonly title: string;
  readonly folder: string;
  /** A grid that `dsk grid` drew, or the preview images of a run. */
  readonly kind: "grid" | "previews";
  readonly images: number;
  readonly missing: number;
  readonly run: string;
}

export interface Axis {
  readonly name: string;
  readonly values: readonly string[];
}

export type Setting = string | number | boolean | null;

/** A cell or a file of a table that joins two grids: where the server has it. */
export interface Origin {
  readonly grid: string;
  readonly n: number;
}

/** One image. It stands at several positions where an axis does not change it. */
export interface Cell {
  readonly n: number;
  /** Indices along the axes x, y, z. */
  readonly at: readonly (readonly number[])[];
  readonly v: string;
  readonly w: number;
  readonly h: number;
  /** Index into the grid's files; null for the base model alone. */
  readonly file: number | null;
  readonly settings: Readonly<Record<string, Setting>>;
  readonly origin?: Origin;
}

export interface Kept {
  readonly name: string;
  readonly folder: string;
  readonly weight: number;
  readonly time: number;
}

export interface LoraFile {
  readonly n: number;
  readonly name: string;
  readonly label: string;
  readonly bytes: number;
  readonly sha256: string;
  /** It is beside the grid, and the one that was drawn. */
  readonly there: boolean;
  readonly kept: Kept | null;
  readonly origin?: Origin;
}

/** A mean with its standard error; null for a single pair. */
export interface Difference {
  readonly mean: number;
  readonly error: number | null;
}

export interface ScoreRow {
  readonly label: string;
  readonly lora: string;
  readonly unet_weight: number;
  readonly text_weight: number;
  readonly held_out_loss: number | null;
  readonly change: Difference | null;
  readonly trained_change: Difference | null;
  readonly recall: number | null;
  readonly to_held_out: Difference | null;
  readonly to_trained: Difference | null;
  readonly drift: Difference | null;
}

export interface Suggestion {
  readonly label: string;
  readonly lora: string;
  readonly reasons: readonly string[];
  readonly remarks: readonly string[];
}

export interface Scores {
  readonly rows: readonly ScoreRow[];
  readonly suggestion: Suggestion;
  readonly tagger: string;
  readonly held_out_images: number;
  readonly trained_images: number;
  readonly notes: readonly string[];
}

export interface Grid {
  readonly id: string;
  readonly version: number;
  readonly title: string;
  readonly folder: string;
  readonly kind: "grid" | "previews";
  readonly axes: readonly Axis[];
  readonly cells: readonly Cell[];
  readonly files: readonly LoraFile[];
  readonly scores: Scores | null;
  readonly trigger: readonly string[];
  readonly family: string;
  /** Marks from 1 to 5, by the number of the cell. */
  readonly marks: Readonly<Record<string, number>>;
  /** The resolved options of the run that trained the files. */
  readonly options: Readonly<Record<string, Setting>>;
  readonly command: string;
}

/** What `dsk keep` writes, or would write. */
export interface KeepResult {
  readonly file: string;
  readonly state: "copied" | "replaced" | "present";
  readonly preview: string | null;
  readonly json: string | null;
  /** Whose folder it is, "" where that is not known. */
  readonly program: string;
  readonly weight: number;
  readonly trigger: readonly string[];
  /** To paste in A1111. */
  readonly prompt: string;
  readonly notes: readonly string[];
  readonly changed: readonly string[];
  readonly entry: number | null;
  readonly command: string;
}

export interface KeepFolder {
  readonly path: string;
  /** The web interface that was recognized in it, or "". */
  readonly kind: string;
}
