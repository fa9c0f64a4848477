/** What the server sends about the checks of a dataset. */

export type Severity = "error" | "warning" | "note";

export interface Finding {
  /** Of the image; null for a file that is not one, or that cannot be read. */
  readonly id: number | null;
  readonly v: string;
  readonly name: string;
  readonly reason: string;
}

export interface CheckCard {
  readonly check: string;
  readonly group: string;
  readonly severity: Severity;
  readonly title: string;
  readonly why: string;
  readonly findings: number;
  readonly files: number;
  readonly fixable: number;
  /** The next step of a person, where dsk cannot fix it. */
  readonly step: string;
  /** The worst, at most twelve. */
  readonly images: readonly Finding[];
}

export interface CheckReport {
  /** When the checks ran last, in seconds; null for never. */
  readonly ran: number | null;
  /** Nothing was changed since. */
  readonly current: boolean;
  readonly images: number;
  /** How many checks found nothing. */
  readonly quiet: number;
  readonly cards: readonly CheckCard[];
  readonly command: string;
}

export interface FixPlan {
  readonly changes: readonly string[];
  readonly count: number;
  readonly entry: number | null;
  readonly command: string;
}

const ORDER: readonly Severity[] = ["error", "warning", "note"];

/** The cards with the worst first; within a severity those with the most findings. */
export function inOrder(cards: readonly CheckCard[]): readonly CheckCard[] {
  return [...cards].sort(
    (a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity) || b.findings - a.findings,
  );
}
