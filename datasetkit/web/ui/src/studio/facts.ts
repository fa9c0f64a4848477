/** What the server says about a project, and the state of each tab as one pure function of it. */

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

/** Facts of `api/project`. A part that the server does not send counts as nothing yet. */
export interface Project {
  readonly name: string;
  readonly root: string;
  readonly read_only?: boolean;
  readonly images?: {
    readonly count: number;
    /** Unreadable, smaller than the size, or a near-duplicate. */
    readonly problems: number;
    readonly outputs_current: boolean;
  };
  readonly check?: {
    readonly ran: boolean;
    /** It ran on today's content. */
    readonly current: boolean;
    readonly errors: number;
  };
  readonly captions?: { readonly captioned: number; readonly problems: number };
  readonly plan?: {
    readonly concepts: number;
    readonly problems: number;
    /** Laid out, and current. */
    readonly current: boolean;
  };
  readonly train?: {
    readonly base: string;
    readonly problems: number;
    /** A run with today's data and options has ended. */
    readonly current: boolean;
  };
  readonly watch?: {
    readonly runs: number;
    /** The newest run failed or was lost. */
    readonly problems: number;
    readonly last_ended_well: boolean;
  };
  readonly compare?: {
    readonly loras: number;
    readonly problems: number;
    readonly kept: boolean;
  };
  readonly history?: { readonly entries: number; readonly problems: number };
  /** Work that runs now: the tab that shows it, and its share from 0 to 1. */
  readonly running?: readonly { readonly tab: TabName; readonly share: number | null }[];
}

export type TabState =
  | { readonly kind: "empty" | "ready" | "done" }
  | { readonly kind: "attention"; readonly count: number }
  | { readonly kind: "running"; readonly share: number | null };

const EMPTY: TabState = { kind: "empty" };

/** The state of each tab. */
export function tabState(project: Project): Readonly<Record<TabName, TabState>> {
  const states = {} as Record<TabName, TabState>;
  for (const name of TAB_NAMES) {
    const running = project.running?.find((work) => work.tab === name);
    states[name] = running ? { kind: "running", share: running.share } : RESTING[name](project);
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
    images ? resting(images.count > 0, images.problems, images.outputs_current) : EMPTY,
  // Errors of an earlier content say nothing about today's.
  check: ({ images, check }) =>
    resting(
      (images?.count ?? 0) > 0,
      check?.current ? check.errors : 0,
      check?.ran === true && check.current,
    ),
  captions: ({ images, captions }) =>
    captions
      ? resting(
          captions.captioned > 0,
          captions.problems,
          captions.captioned >= (images?.count ?? 0),
        )
      : EMPTY,
  plan: ({ plan }) => (plan ? resting(plan.concepts > 0, plan.problems, plan.current) : EMPTY),
  train: ({ train }) => (train ? resting(train.base !== "", train.problems, train.current) : EMPTY),
  watch: ({ watch }) =>
    watch ? resting(watch.runs > 0, watch.problems, watch.last_ended_well) : EMPTY,
  compare: ({ compare }) =>
    compare ? resting(compare.loras > 0, compare.problems, compare.kept) : EMPTY,
  history: ({ history }) =>
    history ? resting(history.entries > 0, history.problems, false) : EMPTY,
};
