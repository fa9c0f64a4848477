/** What the server says about a project, and the state of each tab as one pure function of it. */

import { isRunning } from "./api";

export const TAB_NAMES = [
  "images",
  "check",
  "captions",
  "plan",
  "train",
  "watch",
  "compare",
  "history",
] as const;
export type TabName = (typeof TAB_NAMES)[number];

/** What the state of each tab follows from: `GET api/project`. */
export interface Project {
  readonly name: string;
  readonly root: string;
  readonly config: {
    readonly exists: boolean;
    readonly hash: string;
    readonly problem: { readonly error: string; readonly hint: string } | null;
  };
  readonly images: {
    readonly concepts: readonly {
      readonly name: string;
      readonly folder: string;
      readonly images: number;
      readonly repeats: number;
    }[];
    readonly total: number;
    readonly unreadable: number;
    /** Smaller than the training size. */
    readonly small: number;
    readonly near_duplicates: number;
    readonly left_out: number;
  };
  readonly captions: {
    readonly captioned: number;
    readonly missing: number;
    readonly empty: number;
    readonly without_trigger: number;
  };
  readonly check: {
    /** Null: it never ran. */
    readonly ran: string | null;
    readonly code: number;
    /** It ran on today's content. */
    readonly is_current: boolean;
  };
  readonly layout: {
    readonly folder: string;
    readonly exists: boolean;
    readonly is_current: boolean;
    readonly images: number;
  };
  readonly train: {
    readonly base: string;
    readonly problem: { readonly error: string; readonly hint: string } | null;
  };
  readonly runs: {
    readonly total: number;
    readonly running: number;
    readonly failed: number;
    readonly lost: number;
    readonly last: string | null;
    /** The newest finished run used the options that dsk.toml has now. */
    readonly current: boolean;
  };
  readonly compare: { readonly loras: number; readonly grids: number; readonly kept: number };
  readonly history: {
    readonly entries: number;
    readonly interrupted: number;
    readonly undo: string | null;
  };
  /** The command that works in the project. */
  readonly locked: { readonly verb: string; readonly job: string | null } | null;
}

/** A job, as far as it decides the state of a tab. */
export interface Work {
  readonly verb: string;
  readonly state: string;
  readonly here: boolean;
  readonly progress: { readonly done: number; readonly of: number } | null;
}

export type TabState =
  | { readonly kind: "empty" | "ready" | "done" }
  | { readonly kind: "attention"; readonly count: number }
  | { readonly kind: "running"; readonly share: number | null };

const EMPTY: TabState = { kind: "empty" };

/** The tab whose work a command is. */
const TAB_OF_VERB: Readonly<Record<string, TabName>> = {
  rename: "images",
  resize: "images",
  cutout: "images",
  "faces list": "images",
  "faces crop": "images",
  "faces erase": "images",
  import: "images",
  check: "check",
  tag: "captions",
  caption: "captions",
  rules: "captions",
  "plan-repeats": "plan",
  layout: "plan",
  reg: "plan",
  "reg generate": "plan",
  "find-lr": "train",
  train: "watch",
  grid: "compare",
  keep: "compare",
};

/** The state of each tab. */
export function tabState(
  project: Project,
  jobs: readonly Work[] = [],
): Readonly<Record<TabName, TabState>> {
  const states = {} as Record<TabName, TabState>;
  for (const name of TAB_NAMES) states[name] = RESTING[name](project);
  for (const job of jobs) {
    const tab = TAB_OF_VERB[job.verb];
    if (!tab || !job.here || !isRunning(job)) continue;
    const { done, of } = job.progress ?? { done: 0, of: 0 };
    states[tab] = { kind: "running", share: of > 0 ? Math.min(1, done / of) : null };
  }
  return states;
}

function resting(exists: boolean, problems: number, done: boolean): TabState {
  if (!exists) return EMPTY;
  if (problems > 0) return { kind: "attention", count: problems };
  return { kind: done ? "done" : "ready" };
}

const RESTING: Readonly<Record<TabName, (project: Project) => TabState>> = {
  images: ({ images }) =>
    resting(images.total > 0, images.unreadable + images.small + images.near_duplicates, true),
  // Errors of an earlier content say nothing about today's.
  check: ({ images, check }) =>
    resting(
      images.total > 0,
      check.ran !== null && check.is_current && check.code !== 0 ? 1 : 0,
      check.ran !== null && check.is_current,
    ),
  captions: ({ images, captions }) =>
    resting(
      images.total > 0 && captions.captioned > 0,
      captions.missing + captions.empty + captions.without_trigger,
      captions.captioned >= images.total,
    ),
  plan: ({ images, layout }) =>
    resting(images.concepts.length > 0, 0, layout.exists && layout.is_current),
  train: ({ train, runs }) => resting(train.base !== "", train.problem ? 1 : 0, runs.current),
  watch: ({ runs }) => resting(runs.total > 0, runs.failed + runs.lost, runs.running === 0),
  compare: ({ compare }) => resting(compare.loras > 0, 0, compare.kept > 0),
  history: ({ history }) => resting(history.entries > 0, history.interrupted, false),
};
