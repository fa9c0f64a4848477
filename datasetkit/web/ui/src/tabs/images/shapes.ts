/** What the server sends about concepts, their images, and what is sent to it. */

export interface Concept {
  readonly id: number;
  readonly name: string;
  readonly folder: string;
  readonly kind: "train" | "reg";
  readonly images: number;
  readonly left_out: number;
  readonly trigger: readonly string[];
  readonly repeats: number | null;
  /** How many of them have a current output. */
  readonly prepared: number;
}

export type StepName = "rename" | "faces" | "resize" | "cutout";
export type StepOptions = Readonly<Record<string, string | number | boolean>>;
export type Steps = Readonly<Partial<Record<StepName, StepOptions>>>;

export interface Concepts {
  readonly concepts: readonly Concept[];
  /** The steps of preparation that dsk.toml has, with their options. */
  readonly steps: Steps;
}

export interface SourceRow {
  readonly id: number;
  readonly name: string;
  readonly w: number;
  readonly h: number;
  readonly v: string;
  readonly bytes: number;
  /** unreadable, small, duplicate, ... or "". */
  readonly problem: string;
}

export interface Source {
  readonly id: number;
  readonly name: string;
  readonly folder: string;
  readonly w: number;
  readonly h: number;
  readonly v: string;
  readonly format: string;
  readonly bytes: number;
  readonly upright: boolean;
  readonly bucket: readonly [number, number] | null;
  readonly made: {
    readonly v: string;
    readonly w: number;
    readonly h: number;
    readonly bytes: number;
  } | null;
  readonly problems: readonly { readonly kind: string; readonly text: string }[];
}

export interface LeftOut {
  readonly name: string;
  readonly reason: string;
}

export interface UploadFile {
  readonly n: number;
  readonly state: "wanted" | "arrived" | "left-out";
  readonly reason?: string;
}

export interface Upload {
  readonly id: string;
  readonly files: readonly UploadFile[];
}

export interface Imported {
  readonly images: number;
  readonly left_out: readonly LeftOut[];
  readonly entry: number | null;
}

export interface PreparePlan {
  readonly images: number;
  readonly changes: readonly string[];
  readonly total: number;
  readonly command: string;
}

export interface PreviewImage {
  readonly id: number;
  readonly v: string;
  readonly w: number;
  readonly h: number;
}

/** `POST api/prepare/preview`. after: null where nothing was made of the image, such as no face. */
export interface Preview {
  readonly images: readonly {
    readonly name: string;
    readonly before: PreviewImage;
    readonly after: PreviewImage | null;
  }[];
  readonly command: string;
}
