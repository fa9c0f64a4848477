/** Jobs that start one after the other, such as a layout and its training, as one entry. */

import { isActive, isRunning, type Job } from "./api";

export interface Chain {
  /** In their order: each waits for those before it. */
  readonly parts: readonly Job[];
  /** The last one, which gives the chain its name. */
  readonly last: Job;
  /** The one that runs; else the one that decides how the chain is. */
  readonly now: Job;
}

/** The jobs in the order in which they are listed, those of a chain where its first one is. */
export function chainsOf(jobs: readonly Job[]): readonly Chain[] {
  const known = new Map(jobs.map((job) => [job.id, job]));
  const chains = new Map<string, Job[]>();
  for (const job of jobs) {
    // Each names all jobs before it, so the parts that are still known share the first of them.
    const first = job.after.find((id) => known.has(id)) ?? job.id;
    chains.set(first, [...(chains.get(first) ?? []), job]);
  }
  return [...chains.values()].map((parts) => {
    parts.sort((a, b) => a.after.length - b.after.length);
    const last = parts.at(-1)!;
    return { parts, last, now: parts.find(isRunning) ?? last };
  });
}

export const isChainActive = ({ parts }: Chain): boolean => parts.some(isActive);

/** Those that wait, in the order of the queue. */
export function queuedParts({ parts }: Chain): readonly Job[] {
  return parts.filter(({ state }) => state === "queued").sort((a, b) => a.place - b.place);
}

/** The entries that wait, in their order. */
export function queueOf(chains: readonly Chain[]): readonly Chain[] {
  const placeOf = (chain: Chain) => queuedParts(chain)[0]?.place ?? 0;
  return chains
    .filter((chain) => !isRunning(chain.now) && isChainActive(chain))
    .sort((a, b) => placeOf(a) - placeOf(b));
}

/** Ask for each of several jobs, one after the other. */
export async function inTurn<Item>(
  items: readonly Item[],
  ask: (item: Item) => Promise<unknown>,
): Promise<void> {
  for (const item of items) await ask(item);
}

/** Remove what waits of an entry. The last one first: none may wait for one that is gone. */
export async function removeParts(
  chain: Chain,
  remove: (id: string) => Promise<unknown>,
): Promise<void> {
  await inTurn([...queuedParts(chain)].reverse(), ({ id }) => remove(id));
}

/** The moves, one after the other, that bring an entry of the queue to the place of another one. */
export function movesTo(
  moved: Chain,
  other: Chain,
): readonly { readonly id: string; readonly place: number }[] {
  const parts = queuedParts(moved);
  const others = queuedParts(other).map(({ place }) => place);
  const before = Math.min(...others);
  if ((parts[0]?.place ?? 0) > before) {
    return parts.map(({ id }, n) => ({ id, place: before + n }));
  }
  const behind = Math.max(...others);
  return [...parts].reverse().map(({ id }, n) => ({ id, place: behind - n }));
}
