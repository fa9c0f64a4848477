/** An immutable value that changes over time, and its subscribers. */

import { useSyncExternalStore } from "react";

export class Store<T extends object> {
  private readonly listeners = new Set<() => void>();

  constructor(private value: T) {}

  readonly get = (): T => this.value;

  readonly set = (change: Partial<T>): void => {
    this.value = { ...this.value, ...change };
    for (const listener of this.listeners) listener();
  };

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
}

/** Render again when the selected part changes. `select` must return the same object until then. */
export function useStore<T extends object, Part>(
  store: Store<T>,
  select: (value: T) => Part,
): Part {
  return useSyncExternalStore(store.subscribe, () => select(store.get()));
}
