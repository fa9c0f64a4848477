/** The routes of `dsk studio`, as docs/studio-api.md has them, and the types of their JSON. */

import type { Session } from "../api";
import { type Http, query } from "../http";
import type { OptionInfo, OptionValue } from "../parts/options";

/** `GET api/session`. Without images there is no dataset, and the captions have a problem. */
export interface StudioSession extends Partial<Session> {
  readonly token: string;
  readonly command: "studio" | "review";
  readonly name: string;
  readonly folder: string;
  readonly root: string;
  readonly read_only: boolean;
  readonly images: number;
  readonly captioned: number;
  readonly started: string;
  readonly dsk: string;
  /** The id that the stream of events goes on from: all that is loaded is newer. */
  readonly events: string;
  readonly captions_problem: { readonly error: string; readonly hint: string } | null;
}

// -- jobs

export type JobState = "queued" | "running" | "stopping" | "done" | "stopped" | "failed" | "lost";

export interface JobProgress {
  readonly phase: string;
  readonly done: number;
  /** 0 where the phase has no number of items. */
  readonly of: number;
  /** Seconds since 1970. */
  readonly time: number;
  readonly note: string;
  readonly per_second: number | null;
  readonly seconds_left: number | null;
}

export interface Job {
  readonly id: string;
  readonly state: JobState;
  readonly verb: string;
  readonly title: string;
  readonly command: string;
  readonly folder: string;
  /** It works in this project. */
  readonly here: boolean;
  readonly started: string;
  readonly code: number | null;
  readonly reason: string;
  readonly lane: "gpu" | "light" | "io";
  /** In the queue, 1 for the next one. */
  readonly place: number;
  readonly held: boolean;
  /** Jobs that must be done before it starts. */
  readonly after: readonly string[];
  readonly run: string | null;
  /** It was asked to stop, so many seconds ago. */
  readonly stop: { readonly how: "save" | "now"; readonly seconds: number } | null;
  /** What it does after its step, and has not begun. */
  readonly asked?: readonly JobAction[];
  readonly progress: JobProgress | null;
}

export type JobAction = "save" | "preview";
export type How = "save" | "now" | "kill";

/** A command of `dsk`: folders as seen from the project, options as dsk.toml names them. */
export interface Command {
  readonly verb: string;
  readonly arguments?: readonly string[];
  readonly options?: Table;
}

/** What a dry run printed. output: that of `--json`, null where it failed. */
export interface Planned<Result> {
  readonly command: string;
  readonly code: number;
  readonly output: {
    readonly result: Result;
    readonly warnings: readonly string[];
    readonly failed: readonly unknown[];
  } | null;
  readonly error: string;
  readonly hint: string;
}

/** What runs before a training, and its steps where the laid-out dataset does not say them yet. */
export interface BeforeTraining {
  readonly before: readonly string[];
  /** A dataset is laid out, of today or of earlier. */
  readonly exists: boolean;
  /** All commands, as they are typed. */
  readonly command: string;
  readonly steps: number | null;
  readonly epochs: number | null;
  readonly problem: { readonly error: string; readonly hint: string } | null;
}

// -- runs

export type RunState =
  "running" | "stopping" | "stopped" | "finished" | "failed" | "lost" | "ended";

export interface Run {
  readonly id: string;
  readonly name: string;
  readonly folder: string;
  readonly state: RunState;
  readonly started: string | null;
  readonly ended: string | null;
  readonly steps: number | null;
  readonly epochs: number | null;
  readonly step: number;
  readonly epoch: number | null;
  readonly loss: number | null;
  readonly seconds_per_step: number | null;
  readonly seconds_left: number | null;
  /** Peak so far, in bytes. */
  readonly memory: number | null;
  readonly job: string | null;
}

export interface RunFile {
  readonly name: string;
  readonly kind: string;
  readonly step: number | null;
  readonly epoch: number | null;
  readonly size: number | null;
}

export interface RunDetails {
  readonly run: Run;
  readonly options: Table;
  readonly plan: Readonly<Record<string, unknown>>;
  readonly versions: Readonly<Record<string, unknown>>;
  readonly files: readonly RunFile[];
  /** What dsk.toml says now and the run does not use: [run, dsk.toml]. */
  readonly differs: Readonly<Record<string, readonly [OptionValue, OptionValue]>>;
}

/** A value over the steps of a run. Where a point is more than one step, its extremes too. */
export interface Column {
  readonly step: readonly number[];
  readonly mean: readonly (number | null)[];
  readonly min?: readonly (number | null)[];
  readonly max?: readonly (number | null)[];
}

export interface Metrics {
  readonly run: string;
  readonly keys: readonly string[];
  readonly last: number;
  readonly series: Readonly<Record<string, Column>>;
}

// -- dsk.toml and presets

export type Table = Readonly<Record<string, OptionValue>>;
export type Tables = Readonly<Record<string, Table>>;

export interface Layer {
  readonly name: string;
  readonly title: string;
  readonly tables: Tables;
}

/** A value comes from `tables`, else from the last layer that has it, else from the schema. */
export interface Config {
  readonly path: string;
  readonly exists: boolean;
  /** Of the file; it goes back with each change. */
  readonly hash: string;
  readonly text: string;
  readonly tables: Tables;
  readonly concepts: readonly Table[];
  readonly problem: { readonly error: string; readonly hint: string } | null;
  readonly layers: readonly Layer[];
}

export interface ConfigChange {
  readonly hash: string;
  readonly set: Tables;
  readonly unset: Readonly<Record<string, readonly string[]>>;
}

export interface Difference {
  readonly table: string;
  readonly key: string;
  readonly yours: OptionValue;
  readonly theirs: OptionValue;
}

export interface PresetPart {
  readonly name: string;
  readonly title: string;
}

export interface OwnPreset {
  readonly name: string;
  readonly title: string;
  readonly families: readonly string[];
  readonly tables: Tables;
  readonly warnings: readonly string[];
}

export interface Presets {
  readonly version: number;
  readonly families: readonly PresetPart[];
  readonly goals: readonly PresetPart[];
  readonly memory: readonly PresetPart[];
  readonly own: readonly OwnPreset[];
}

/** `POST api/models`: the base models in a folder, its subfolders, and models without a path. */
export interface BaseModels {
  readonly path: string;
  readonly parent: string | null;
  readonly folders: readonly { readonly name: string; readonly link: boolean }[];
  readonly models: readonly {
    readonly name: string;
    /** The text for dsk.toml. */
    readonly value: string;
    /** Bytes of a file. */
    readonly size: number | null;
  }[];
  readonly known: readonly { readonly value: string; readonly size: number | null }[];
}

export interface PresetValues {
  readonly title: string;
  readonly tables: Tables;
  readonly replace: boolean;
}

export interface Schema {
  readonly version: string;
  readonly tables: Readonly<Record<string, readonly OptionInfo[]>>;
  readonly concept: readonly OptionInfo[];
  /** The ten options of the training form: `table.name`. */
  readonly slots: Readonly<Record<string, readonly string[]>>;
}

export interface System {
  readonly cards: readonly {
    readonly name: string;
    readonly memory: number;
    readonly used: number;
    readonly temperature: number | null;
    readonly bf16: boolean;
  }[];
  readonly memory: { readonly total: number; readonly free: number };
  readonly disk: { readonly free: number };
  readonly torch: { readonly installed: boolean; readonly cuda: boolean };
  readonly problem: string;
}

/** Whether a job or a run is at work, also one that is asked to stop. */
export function isRunning({ state }: { readonly state: string }): boolean {
  return state === "running" || state === "stopping";
}

/** Whether a job is at work, or waits in the queue. */
export function isActive(job: { readonly state: string }): boolean {
  return isRunning(job) || job.state === "queued";
}

export function studioApi(http: Http) {
  const job = (id: string, change: string, body: object = {}) =>
    http.post<{ readonly job: Job }>(`api/jobs/${encodeURIComponent(id)}/${change}`, body);
  return {
    schema: () => http.get<Schema>("api/schema"),
    system: () => http.get<System>("api/system"),

    jobs: () => http.get<{ readonly jobs: readonly Job[] }>("api/jobs"),
    start: (command: Command, when: "now" | "queue" | "held") =>
      http.post<{ readonly job: Job }>("api/jobs", { ...command, when }),
    beforeTraining: () => http.get<BeforeTraining>("api/training"),
    /** Lay the dataset out where that is needed, then train. */
    train: (when: "now" | "queue") =>
      http.post<{ readonly job: Job; readonly before: readonly Job[] }>("api/jobs", {
        verb: "train",
        lay_out: true,
        when,
      }),
    plan: <Result>(command: Command, signal?: AbortSignal) =>
      http.post<Planned<Result>>("api/plan", command, signal),
    command: (command: Command) => http.post<{ readonly command: string }>("api/command", command),
    stop: (id: string, how: How) => job(id, "stop", { how }),
    ask: (id: string, action: JobAction) => job(id, "ask", { action }),
    resume: (id: string) => job(id, "resume"),
    forget: (id: string) => job(id, "forget"),
    remove: (id: string) => job(id, "remove"),
    hold: (id: string, held: boolean) => job(id, "hold", { held }),
    order: (id: string, place: number) => job(id, "order", { place }),
    jobLog: (id: string) =>
      http.get<{ readonly log: string }>(`api/jobs/${encodeURIComponent(id)}`),

    runs: () => http.get<{ readonly runs: readonly Run[] }>("api/runs"),
    run: (id: string) => http.get<RunDetails>(`api/runs/${encodeURIComponent(id)}`),
    metrics: (id: string, values: Readonly<Record<string, string | number>>) =>
      http.get<Metrics>(`api/runs/${encodeURIComponent(id)}/metrics?${query(values)}`),

    config: () => http.get<Config>("api/config"),
    saveConfig: (change: ConfigChange) => http.put<Config>("api/config", change),
    models: (path: string) => http.post<BaseModels>("api/models", { path }),
    presets: () => http.get<Presets>("api/presets"),
    savePreset: (name: string, values: PresetValues) =>
      http.put<OwnPreset>(`api/presets/${encodeURIComponent(name)}`, values),
    deletePreset: (name: string) => http.delete<Presets>(`api/presets/${encodeURIComponent(name)}`),
  };
}

export type StudioApi = ReturnType<typeof studioApi>;
